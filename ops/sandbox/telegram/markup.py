"""Reply markup: the buttons under a message and under the text field."""

from typing import Any

from ops.sandbox.telegram.calls import bad_request

_LONGEST_DATA = 64  # bytes
_SWITCHES = {f"switch_inline_query{place}" for place in ("", "_current_chat", "_chosen_chat")}
_ACTIONS = {"callback_data", "url", "web_app", "login_url", "copy_text", "callback_game", "pay"} | _SWITCHES

Markup = dict[str, Any]


def checked(markup: Any) -> Markup | None:
    """The markup as Telegram keeps it; None for none.

    Raises:
        ApiError: The markup or a button is malformed.
    """
    if markup is None:
        return None
    if not isinstance(markup, dict):
        raise bad_request("object expected as reply markup")
    if "inline_keyboard" in markup:
        rows = markup["inline_keyboard"]
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise bad_request(
                'field "inline_keyboard" of the InlineKeyboardMarkup should be an Array of Arrays'
            )
        kept = [[_inline_button(button) for button in row] for row in rows if row]
        return {"inline_keyboard": kept} if kept else None
    return markup


def _inline_button(button: Any) -> dict[str, Any]:
    wrong = "can't parse inline keyboard button:"
    if not isinstance(button, dict):
        raise bad_request(f"{wrong} InlineKeyboardButton should be an Object")
    if not isinstance(button.get("text"), str):
        raise bad_request(f'{wrong} Field "text" must be of type String')
    known = {name: value for name, value in button.items() if value is not None}
    if not _ACTIONS & known.keys():
        raise bad_request(f"{wrong} Text buttons are unallowed in the inline keyboard")
    data = known.get("callback_data")
    if data is not None and not 0 < len(str(data).encode()) <= _LONGEST_DATA:
        raise bad_request("BUTTON_DATA_INVALID")
    return known


def inline_buttons(markup: Markup | None) -> list[dict[str, Any]]:
    """The buttons under a message, row after row."""
    return [button for row in (markup or {}).get("inline_keyboard", []) for button in row]
