"""Methods about the bot itself: who it is, its commands, its descriptions."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ops.sandbox.telegram.calls import Parameters, bad_request

if TYPE_CHECKING:
    from ops.sandbox.telegram.server import Telegram

Method = Callable[["Telegram", Parameters], Awaitable[Any]]


async def get_me(telegram: "Telegram", _: Parameters) -> Any:
    """The bot as a user."""
    return {
        **telegram.bot,
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
    }


def _commands_key(parameters: Parameters) -> tuple[str, str]:
    scope = parameters.structure("scope") or {}
    kind = f"{scope.get('type', 'default')}:{scope.get('chat_id', '')}".rstrip(":")
    return kind, parameters.text("language_code")


async def set_my_commands(telegram: "Telegram", parameters: Parameters) -> Any:
    """Replaces the commands of a scope and a language."""
    commands = parameters.structure("commands") or []
    for command in commands:
        name = str(command.get("command", "")).removeprefix("/")
        if not name.replace("_", "a").isalnum() or name.lower() != name or len(name) > 32:
            raise bad_request("BOT_COMMAND_INVALID")
        if not 1 <= len(str(command.get("description", ""))) <= 256:
            raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
        command["command"] = name
    telegram.commands[_commands_key(parameters)] = commands
    telegram.profile_changed()
    return True


async def get_my_commands(telegram: "Telegram", parameters: Parameters) -> Any:
    """The commands of a scope and a language."""
    return telegram.commands.get(_commands_key(parameters), [])


async def delete_my_commands(telegram: "Telegram", parameters: Parameters) -> Any:
    """Removes the commands of a scope and a language."""
    telegram.commands.pop(_commands_key(parameters), None)
    telegram.profile_changed()
    return True


def setter(name: str) -> Method:
    """The method that sets a text of the profile in a language."""

    async def set_it(telegram: "Telegram", parameters: Parameters) -> Any:
        telegram.profile[name, parameters.text("language_code")] = parameters.text(name)
        telegram.profile_changed()
        return True

    return set_it


def getter(name: str) -> Method:
    """The method that tells a text of the profile."""

    async def get_it(telegram: "Telegram", parameters: Parameters) -> Any:
        return {name: telegram.profile_text(name, parameters.text("language_code"))}

    return get_it
