"""The Telegram bot: from an update to a reply."""

import services.telegram  # noqa: F401  before any module here imports aiogram
