"""The methods of the Bot API: functions of the world and a call's parameters."""

import time
from typing import Any

from ops.sandbox.telegram import markup, profile
from ops.sandbox.telegram.calls import ApiError, Parameters, bad_request
from ops.sandbox.telegram.entities import LONGEST, Entity, formatted, utf16_length
from ops.sandbox.telegram.messages import Message, Version
from ops.sandbox.telegram.world import Reader, World

_ACTION_LASTS = 5.0  # seconds
_LONGEST_CAPTION = 1024  # UTF-16 code units
_VERSIONS = 100  # of one message
_LONGEST_POLL = 50  # seconds
_GIFTS = ("unlimited_gifts", "limited_gifts", "unique_gifts")


def _known(world: World, parameters: Parameters) -> Reader:
    """The reader of a chat.

    Raises:
        ApiError: There is none, or the account was deleted.
    """
    reader = world.readers.get(chat_id := parameters.integer("chat_id"))
    if not reader:
        deleted = chat_id in world.deleted
        raise ApiError(403, "Forbidden: user is deactivated") if deleted else bad_request("chat not found")
    return reader


def _reader(world: World, parameters: Parameters) -> Reader:
    """The reader a call is for.

    Raises:
        ApiError: There is none, the account was deleted, or the reader has blocked the bot.
    """
    if not parameters.text("chat_id"):
        raise bad_request("chat_id is empty")
    reader = _known(world, parameters)
    if reader.blocked:
        raise ApiError(403, "Forbidden: bot was blocked by the user")
    return reader


def _message(world: World, parameters: Parameters, what: str) -> tuple[Reader, Message]:
    """The message a call is about."""
    reader = _reader(world, parameters)
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
    """The text, formatting and buttons in a call."""
    text, entities = formatted(
        parameters.text("text"), parameters.text("parse_mode"), parameters.structure("entities")
    )
    if utf16_length(text) > LONGEST:
        raise bad_request(too_long)
    return Version(time.time(), text, entities, markup.checked(parameters.structure("reply_markup")))


def _replace(world: World, reader: Reader, message: Message, version: Version) -> dict[str, Any]:
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
    return message.as_api(reader.chat, world.bot)


# Messages


async def send_message(world: World, parameters: Parameters) -> Any:
    """Sends a text; returns the message."""
    version = _version(parameters, "message is too long")
    reader = _reader(world, parameters)
    keys = version.reply_markup or {}
    if "keyboard" in keys or "remove_keyboard" in keys:
        reader.keyboard = keys if "keyboard" in keys else None
        world.reader_changed(reader)
    reader.action = None
    message = Message(world.new_message_id(), reader.id, from_bot=True, versions=[version])
    reader.add(message)
    return message.as_api(reader.chat, world.bot)


async def send_document(world: World, parameters: Parameters) -> Any:
    """Sends a file that came with the call, with or without a caption; returns the message."""
    upload = parameters.file("document")
    if not upload:
        raise bad_request("there is no document in the request (the sandbox takes only uploaded files)")
    if not upload.data:
        raise bad_request("file must be non-empty")
    caption, entities = "", list[Entity]()
    if parameters.text("caption"):
        caption, entities = formatted(
            parameters.text("caption"),
            parameters.text("parse_mode"),
            parameters.structure("caption_entities"),
        )
    if utf16_length(caption) > _LONGEST_CAPTION:
        raise bad_request("message caption is too long")
    keys = markup.checked(parameters.structure("reply_markup"))
    reader = _reader(world, parameters)
    document = {
        "file_name": upload.name,
        "mime_type": upload.kind,
        "file_id": world.keep_file(upload),
        "file_size": len(upload.data),
    }
    document["file_unique_id"] = document["file_id"]
    version = Version(time.time(), caption, entities, keys)
    message = Message(
        world.new_message_id(), reader.id, from_bot=True, versions=[version], content={"document": document}
    )
    reader.action = None
    reader.add(message)
    return message.as_api(reader.chat, world.bot)


async def edit_message_text(world: World, parameters: Parameters) -> Any:
    """Replaces the text and the buttons; without `reply_markup` the buttons go."""
    version = _version(parameters, "MESSAGE_TOO_LONG")
    reader, message = _message(world, parameters, "edit")
    return _replace(world, reader, message, version)


async def edit_message_reply_markup(world: World, parameters: Parameters) -> Any:
    """Replaces the buttons."""
    reader, message = _message(world, parameters, "edit")
    keys = markup.checked(parameters.structure("reply_markup"))
    return _replace(world, reader, message, Version(time.time(), message.text, message.entities, keys))


async def delete_message(world: World, parameters: Parameters) -> Any:
    """Deletes a message of the bot or the reader."""
    reader, message = _message(world, parameters, "delete")
    message.deleted = True
    reader.changed(message)
    return True


async def send_chat_action(world: World, parameters: Parameters) -> Any:
    """Shows «typing…» for five seconds or until the next message."""
    reader = _reader(world, parameters)
    action = parameters.text("action")
    if not action:
        raise bad_request("wrong parameter action in request")
    reader.action = (action, time.time() + _ACTION_LASTS)
    reader.watch.notify()
    world.publish("action", {"chat_id": reader.id, "action": action, "seconds": _ACTION_LASTS})
    return True


async def answer_callback_query(world: World, parameters: Parameters) -> Any:
    """Answers a pressed button, with or without a notice; only the first answer shows."""
    query_id = parameters.text("callback_query_id")
    reader_id, until, answered = world.callback_queries.get(query_id, (0, 0.0, False))
    reader = world.readers.get(reader_id)
    if time.time() > until or not reader:
        raise bad_request("query is too old and response timeout expired or query ID is invalid")
    if answered:
        return True
    world.callback_queries[query_id] = (reader_id, until, True)
    shown = {"text": parameters.text("text"), "show_alert": parameters.flag("show_alert")}
    answer = {"callback_query_id": query_id, **shown}
    reader.answers.append(answer)
    reader.watch.notify()
    world.publish("answer", {"chat_id": reader.id, **answer})
    return True


async def get_chat(world: World, parameters: Parameters) -> Any:
    """The private chat with a reader, even one who has blocked the bot."""
    reader = _known(world, parameters)
    gifts = dict.fromkeys((*_GIFTS, "premium_subscription", "gifts_from_channels"), False)
    return {**reader.chat, "accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": gifts}


# Updates


async def get_updates(world: World, parameters: Parameters) -> Any:
    """Confirms the updates before `offset`; returns the next, waiting up to `timeout` seconds."""
    if world.webhook.url:
        raise ApiError(
            409,
            "Conflict: can't use getUpdates method while webhook is active; "
            "use deleteWebhook to delete the webhook first",
        )
    _allow(world, parameters)
    timeout = min(max(0, parameters.integer("timeout")), _LONGEST_POLL)
    limit = min(max(1, parameters.integer("limit", 100)), 100)
    return await world.updates.poll(parameters.integer("offset"), limit, timeout)


def _allow(world: World, parameters: Parameters) -> None:
    # Without the parameter the former choice holds; an empty list stands for the usual kinds.
    allowed = parameters.values.get("allowed_updates")
    if isinstance(allowed, list):
        world.updates.allowed = [str(kind) for kind in allowed]


async def set_webhook(world: World, parameters: Parameters) -> Any:
    """Posts updates to `url` from now on; an empty one ends it."""
    url, secret = parameters.text("url"), parameters.text("secret_token")
    if url and not url.startswith(("http://", "https://")):
        raise bad_request("invalid webhook URL specified")
    if len(secret) > 256 or (not secret.replace("-", "").replace("_", "a").isalnum() and secret):
        raise bad_request("secret token contains unallowed characters")
    world.updates.abort_poll("terminated by setWebhook request")
    if parameters.flag("drop_pending_updates"):
        world.updates.clear()
    _allow(world, parameters)
    await world.webhook.set(url, secret, parameters.integer("max_connections"))
    return True


async def delete_webhook(world: World, parameters: Parameters) -> Any:
    """Ends the posting of updates; they can be polled again."""
    if parameters.flag("drop_pending_updates"):
        world.updates.clear()
    await world.webhook.set("")
    return True


async def get_webhook_info(world: World, _: Parameters) -> Any:
    """The address, the number of pending updates and the last error."""
    return world.webhook.info()


async def nothing_to_do(_: World, __: Parameters) -> Any:
    """Closing and logging out have no effect here."""
    return True


# Names as Telegram compares them: in lower case.
METHODS: dict[str, profile.Method] = {
    "getme": profile.get_me,
    "getupdates": get_updates,
    "setwebhook": set_webhook,
    "deletewebhook": delete_webhook,
    "getwebhookinfo": get_webhook_info,
    "sendmessage": send_message,
    "senddocument": send_document,
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
