"""aiogram's models are built when they are first used, and can be."""

import subprocess
import sys

PROGRAM = """
import services.telegram
from aiogram import methods, types
from pydantic import BaseModel

models = [
    model
    for module in (types, methods)
    for name in module.__all__
    if isinstance(model := getattr(module, name), type) and issubclass(model, BaseModel)
]
unbuilt = [model for model in models if not model.__pydantic_complete__]
print(len(models), len(unbuilt))
update = types.Update.model_validate(
    {"update_id": 1, "message": {"message_id": 1, "date": 1, "chat": {"id": 5, "type": "private"}, "text": "x"}}
)
assert update.message.text == "x"
for model in models[::9]:  # each takes its time
    if model not in (types.TelegramObject, methods.TelegramMethod):
        model.model_rebuild()
        assert model.__pydantic_complete__, model
"""


def test_importing_aiogram_builds_almost_nothing_and_what_is_needed_can_be_built_later() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    models, unbuilt = map(int, ended.stdout.split())
    assert models > 500
    assert unbuilt > 300
