"""A node that answers every request with its own payload. For tests and measurements only.

    python echo_node.py FOLDER HOST:PORT [PAUSE]

FOLDER holds cert.pem, key.pem and ca.pem. While the file PAUSE exists, nothing is answered; who
was asked is written beside it. What a person would be told goes to the standard output.
"""

import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from aggregator.app import record_of
from federation.engine.thin_node import serve
from federation.registry.credentials import Credentials
from privacy.messages import Refused, pack


def echo_app(name: str, pause: Path | None = None) -> ClientApp:
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        del context
        if pause is not None and pause.exists():
            with pause.with_suffix(".asked").open("a") as asked:
                asked.write(f"{name}\n")
            while pause.exists():
                time.sleep(0.02)
        records = message.content.array_records
        payload = records["payload"]["payload"].data if "payload" in records else b""
        reply = Refused(member=name, reason="echo")
        return Message(record_of(pack(reply, payload)), reply_to=message)

    app.query()(answer)
    app.train()(answer)
    app.evaluate()(answer)
    return app


def say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def main() -> None:
    folder, fleet = Path(sys.argv[1]), sys.argv[2]
    pause = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    credentials = Credentials(
        certificate=(folder / "cert.pem").read_bytes(),
        key=(folder / "key.pem").read_bytes(),
        authority=(folder / "ca.pem").read_bytes(),
    )
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    app = echo_app(credentials.peer.name, pause)
    serve(fleet, credentials, app, stop=stop, told=say)


if __name__ == "__main__":
    main()
