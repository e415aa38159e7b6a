"""Methods about the bot itself: its user, its commands, its descriptions."""

from collections.abc import Awaitable, Callable
from typing import Any

from ops.sandbox.telegram.calls import Parameters, bad_request
from ops.sandbox.telegram.world import World

_CANNOT = (
    "can_read_all_group_messages",
    "supports_inline_queries",
    "can_connect_to_business",
    "has_main_web_app",
)

Method = Callable[[World, Parameters], Awaitable[Any]]


async def get_me(world: World, _: Parameters) -> Any:
    """The bot as a user."""
    return {**world.bot, "can_join_groups": True, **dict.fromkeys(_CANNOT, False)}


def _commands_key(parameters: Parameters) -> tuple[str, str]:
    scope = parameters.structure("scope") or {}
    kind = f"{scope.get('type', 'default')}:{scope.get('chat_id', '')}".rstrip(":")
    return kind, parameters.text("language_code")


async def set_my_commands(world: World, parameters: Parameters) -> Any:
    """Replaces the commands of a scope and a language."""
    commands = parameters.structure("commands") or []
    for command in commands:
        name = str(command.get("command", "")).removeprefix("/")
        if not name.replace("_", "a").isalnum() or name.lower() != name or len(name) > 32:
            raise bad_request("BOT_COMMAND_INVALID")
        if not 1 <= len(str(command.get("description", ""))) <= 256:
            raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
        command["command"] = name
    world.commands[_commands_key(parameters)] = commands
    world.profile_changed()
    return True


async def get_my_commands(world: World, parameters: Parameters) -> Any:
    """The commands of a scope and a language."""
    return world.commands.get(_commands_key(parameters), [])


async def delete_my_commands(world: World, parameters: Parameters) -> Any:
    """Removes the commands of a scope and a language."""
    world.commands.pop(_commands_key(parameters), None)
    world.profile_changed()
    return True


def setter(name: str) -> Method:
    """The method that sets a text of the profile in a language."""

    async def set_it(world: World, parameters: Parameters) -> Any:
        world.profile[name, parameters.text("language_code")] = parameters.text(name)
        world.profile_changed()
        return True

    return set_it


def getter(name: str) -> Method:
    """The method that tells a text of the profile."""

    async def get_it(world: World, parameters: Parameters) -> Any:
        return {name: world.profile_text(name, parameters.text("language_code"))}

    return get_it
