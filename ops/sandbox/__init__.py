"""The sandbox: a Telegram Bot API emulator with a chat page, and an OpenAI-compatible text server.

Foreign to the rest of the project: it knows of it only what Telegram and OpenAI would.

    async with Sandbox() as sandbox:
        anya = sandbox.telegram.reader(7, name="Аня", language="ru")
        await anya.say("/start")
        await anya.wait_for(lambda messages: messages[-1].buttons)
        await anya.press("♌ Лев")
        sandbox.model.faults.add("500", sign="leo", times=2)
"""

from ops.sandbox.server import Sandbox

__all__ = ["Sandbox"]
