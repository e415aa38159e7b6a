"""The pages that operators see, one module a noun."""
