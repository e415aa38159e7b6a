"""The emulator of Telegram's Bot API."""
