"""How it is run: command line, local stack, sandbox, benchmarks, image."""
