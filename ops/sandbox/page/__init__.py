"""The chat page, and the panel beside it."""
