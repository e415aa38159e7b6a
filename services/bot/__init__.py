"""The Telegram bot: from an update to a reply."""
