"""The Telegram bot: from an update to a reply."""

import services.telegram  # noqa: F401  must come before aiogram is imported
