"""Telegram's Bot API, for every process that calls it.

Import this package before aiogram: it keeps aiogram from building its 440 models at import.
"""

from services.telegram import lazy_models

lazy_models.install()

from aiogram import Bot  # noqa: E402  after the patch
from aiogram.exceptions import TelegramAPIError  # noqa: E402

__all__ = ["Bot", "TelegramAPIError"]
