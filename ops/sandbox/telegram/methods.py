"""The methods of the Bot API, each a function of the emulator and the call's parameters."""

import time
from typing import TYPE_CHECKING, Any

from ops.sandbox.telegram import markup, profile
from ops.sandbox.telegram.calls import ApiError, Parameters, bad_request
from ops.sandbox.telegram.entities import LONGEST, formatted, utf16_length
from ops.sandbox.telegram.messages import Message, Version
from ops.sandbox.telegram.world import Reader

if TYPE_CHECKING:
    from ops.sandbox.telegram.server import Telegram

_ACTION_LASTS = 5.0  # seconds
_VERSIONS = 100  # of one message
_LONGEST_POLL = 50  # seconds


def _reader(telegram: "Telegram", parameters: Parameters) -> Reader:
    """The reader a call is for.

    Raises:
        ApiError: There is none, or the reader has blocked the bot.
    """
    if not parameters.text("chat_id"):
        raise bad_request("chat_id is empty")
    reader = telegram.readers.get(parameters.integer("chat_id"))
    if not reader:
        raise bad_request("chat not found")
    if reader.blocked:
        raise ApiError(403, "Forbidden: bot was blocked by the user")
    return reader


def _message(telegram: "Telegram", parameters: Parameters, what: str) -> tuple[Reader, Message]:
    """The message a call is about."""
    reader = _reader(telegram, parameters)
    message_id = parameters.integer("message_id")
    if not message_id:
        raise bad_request("message identifier is not specified")
    message = reader.find(message_id)
    if not message:
        raise bad_request(f"message to {what} not found")
    if what == "edit" and not message.from_bot:
        raise bad_request("message can't be edited")
    return reader, message


def _version(parameters: Parameters, too_long: str) -> Version:
    """What a message is to say from now on."""
    text, entities = formatted(
        parameters.text("text"), parameters.text("parse_mode"), parameters.structure("entities")
    )
    if utf16_length(text) > LONGEST:
        raise bad_request(too_long)
    return Version(time.time(), text, entities, markup.checked(parameters.structure("reply_markup")))


def _replace(telegram: "Telegram", reader: Reader, message: Message, version: Version) -> dict[str, Any]:
    now = message.versions[-1]
    if (now.text, now.entities, now.reply_markup) == (version.text, version.entities, version.reply_markup):
        raise bad_request(
            "message is not modified: specified new message content and reply markup are exactly the same "
            "as a current content and reply markup of the message"
        )
    message.versions.append(version)
    if len(message.versions) > _VERSIONS:
        del message.versions[1]
    reader.changed(message)
    return message.as_api(reader.chat, telegram.bot)


# Messages


async def send_message(telegram: "Telegram", parameters: Parameters) -> Any:
    """Sends a text; returns the message."""
    version = _version(parameters, "message is too long")
    reader = _reader(telegram, parameters)
    keys = version.reply_markup or {}
    if "keyboard" in keys or "remove_keyboard" in keys:
        reader.keyboard = keys if "keyboard" in keys else None
        telegram.reader_changed(reader)
    reader.action = None
    message = Message(telegram.new_message_id(), reader.id, from_bot=True, versions=[version])
    reader.add(message)
    return message.as_api(reader.chat, telegram.bot)


async def edit_message_text(telegram: "Telegram", parameters: Parameters) -> Any:
    """Replaces the text and the buttons; without `reply_markup` the buttons go."""
    version = _version(parameters, "MESSAGE_TOO_LONG")
    reader, message = _message(telegram, parameters, "edit")
    return _replace(telegram, reader, message, version)


async def edit_message_reply_markup(telegram: "Telegram", parameters: Parameters) -> Any:
    """Replaces the buttons."""
    reader, message = _message(telegram, parameters, "edit")
    keys = markup.checked(parameters.structure("reply_markup"))
    return _replace(telegram, reader, message, Version(time.time(), message.text, message.entities, keys))


async def delete_message(telegram: "Telegram", parameters: Parameters) -> Any:
    """Takes a message away, the bot's or the reader's."""
    reader, message = _message(telegram, parameters, "delete")
    message.deleted = True
    reader.changed(message)
    return True


async def send_chat_action(telegram: "Telegram", parameters: Parameters) -> Any:
    """Shows «typing…» for five seconds or until a message comes."""
    reader = _reader(telegram, parameters)
    action = parameters.text("action")
    if not action:
        raise bad_request("wrong parameter action in request")
    reader.action = (action, time.time() + _ACTION_LASTS)
    reader.notify()
    telegram.publish("action", {"chat_id": reader.id, "action": action, "seconds": _ACTION_LASTS})
    return True


async def answer_callback_query(telegram: "Telegram", parameters: Parameters) -> Any:
    """Ends the waiting of a pressed button, with or without words; only the first answer shows."""
    query_id = parameters.text("callback_query_id")
    reader_id, until, answered = telegram.callback_queries.get(query_id, (0, 0.0, False))
    if time.time() > until:
        raise bad_request("query is too old and response timeout expired or query ID is invalid")
    if answered:
        return True
    telegram.callback_queries[query_id] = (reader_id, until, True)
    reader = telegram.readers[reader_id]
    answer = {
        "callback_query_id": query_id,
        "text": parameters.text("text"),
        "show_alert": parameters.flag("show_alert"),
    }
    reader.answers.append(answer)
    reader.notify()
    telegram.publish("answer", {"chat_id": reader.id, **answer})
    return True


async def get_chat(telegram: "Telegram", parameters: Parameters) -> Any:
    """The private chat with a reader, also with one who has blocked the bot."""
    reader = telegram.readers.get(parameters.integer("chat_id"))
    if not reader:
        raise bad_request("chat not found")
    gifts = (
        "unlimited_gifts",
        "limited_gifts",
        "unique_gifts",
        "premium_subscription",
        "gifts_from_channels",
    )
    return {
        **reader.chat,
        "accent_color_id": reader.id % 7,
        "max_reaction_count": 11,
        "accepted_gift_types": dict.fromkeys(gifts, False),
    }


# Updates


async def get_updates(telegram: "Telegram", parameters: Parameters) -> Any:
    """Confirms what is before `offset` and returns what follows, waiting up to `timeout` seconds."""
    if telegram.webhook.url:
        raise ApiError(
            409,
            "Conflict: can't use getUpdates method while webhook is active; "
            "use deleteWebhook to delete the webhook first",
        )
    _allow(telegram, parameters)
    timeout = min(max(0, parameters.integer("timeout")), _LONGEST_POLL)
    limit = min(max(1, parameters.integer("limit", 100)), 100)
    return await telegram.updates.poll(parameters.integer("offset"), limit, timeout)


def _allow(telegram: "Telegram", parameters: Parameters) -> None:
    # Missing, the former choice holds; an empty list stands for the usual kinds.
    allowed = parameters.values.get("allowed_updates")
    if isinstance(allowed, list):
        telegram.updates.allowed = [str(kind) for kind in allowed]


async def set_webhook(telegram: "Telegram", parameters: Parameters) -> Any:
    """Begins to post updates to `url`; an empty one ends it."""
    url, secret = parameters.text("url"), parameters.text("secret_token")
    if url and not url.startswith(("http://", "https://")):
        raise bad_request("invalid webhook URL specified")
    if len(secret) > 256 or (not secret.replace("-", "").replace("_", "a").isalnum() and secret):
        raise bad_request("secret token contains unallowed characters")
    telegram.updates.abort_poll("terminated by setWebhook request")
    if parameters.flag("drop_pending_updates"):
        telegram.updates.clear()
    _allow(telegram, parameters)
    await telegram.webhook.set(url, secret, parameters.integer("max_connections"))
    return True


async def delete_webhook(telegram: "Telegram", parameters: Parameters) -> Any:
    """Ends the posting of updates; from now on they can be polled."""
    if parameters.flag("drop_pending_updates"):
        telegram.updates.clear()
    await telegram.webhook.set("")
    return True


async def get_webhook_info(telegram: "Telegram", _: Parameters) -> Any:
    """The address, what is pending and the last error."""
    return telegram.webhook.info()


async def nothing_to_do(_: "Telegram", __: Parameters) -> Any:
    """Closing and logging out matter to real servers only."""
    return True


# Names as Telegram compares them: in lower case.
METHODS: dict[str, profile.Method] = {
    "getme": profile.get_me,
    "getupdates": get_updates,
    "setwebhook": set_webhook,
    "deletewebhook": delete_webhook,
    "getwebhookinfo": get_webhook_info,
    "sendmessage": send_message,
    "editmessagetext": edit_message_text,
    "editmessagereplymarkup": edit_message_reply_markup,
    "deletemessage": delete_message,
    "answercallbackquery": answer_callback_query,
    "sendchataction": send_chat_action,
    "getchat": get_chat,
    "setmycommands": profile.set_my_commands,
    "getmycommands": profile.get_my_commands,
    "deletemycommands": profile.delete_my_commands,
    "setmyname": profile.setter("name"),
    "getmyname": profile.getter("name"),
    "setmydescription": profile.setter("description"),
    "getmydescription": profile.getter("description"),
    "setmyshortdescription": profile.setter("short_description"),
    "getmyshortdescription": profile.getter("short_description"),
    "close": nothing_to_do,
    "logout": nothing_to_do,
}
