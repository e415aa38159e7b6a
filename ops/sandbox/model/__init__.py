"""The emulator of a server that speaks OpenAI's Chat Completions API."""
