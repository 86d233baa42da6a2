"""The Flower ClientApp of a node: it unpacks, asks the node, packs. All rules are the node's.

Flower is a courier here: what it carries is signed and sealed inside, so nothing in this file
protects anybody.
"""

import logging

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.desk import Desk
from clients.node import Node
from privacy.errors import (
    BudgetError,
    DataError,
    InputError,
    OwnFileError,
    ProtocolError,
    TacitError,
)
from privacy.messages import Parcel, Refused, pack, unpack_request


def client_app(node: Node | Desk) -> ClientApp:
    """The app of one installation; it keeps the node, and nothing in Flower's context."""
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        del context
        return Message(_record(_answer(node, message.content)), reply_to=message)

    app.query()(answer)
    app.train()(answer)
    app.evaluate()(answer)
    return app


def _answer(node: Node | Desk, content: RecordDict) -> Parcel:
    try:
        request, payload = unpack_request(_parcel(content))
        return pack(*node.handle(request, payload))
    except (DataError, InputError) as fault:
        logging.getLogger(f"tacit.node.{node.member}").info("refused: %s", fault)
        told = str(fault) if node.tells_data_errors else "Its rows do not keep the contract."
        return pack(Refused(member=node.member, reason=told))
    except BudgetError as refusal:
        # what was spent in other federations is nobody's business here
        logging.getLogger(f"tacit.node.{node.member}").info("refused: %s", refusal)
        told = str(refusal) if node.tells_data_errors else "Its privacy budget does not hold this."
        return pack(Refused(member=node.member, reason=told))
    except OwnFileError as fault:
        # where things lie on this machine is nobody's business; what is wrong with what the
        # coordinator sent is another error, and is told
        logging.getLogger(f"tacit.node.{node.member}").warning("refused: %s", fault)
        told = str(fault) if node.tells_data_errors else fault.told
        return pack(Refused(member=node.member, reason=told))
    except TacitError as refusal:
        logging.getLogger(f"tacit.node.{node.member}").info("refused: %s", refusal)
        return pack(Refused(member=node.member, reason=str(refusal)))
    except Exception:
        # what went wrong stays here: a traceback can show rows
        logging.getLogger(f"tacit.node.{node.member}").exception("failed")
        reason = "The node failed inside; its own log says where."
        return pack(Refused(member=node.member, reason=reason))


def _record(parcel: Parcel) -> RecordDict:
    record = RecordDict({"message": ConfigRecord({"bytes": parcel.message})})
    if parcel.payload:
        array = Array("|u1", (len(parcel.payload),), "tacit.v2", parcel.payload)
        record["payload"] = ArrayRecord({"payload": array})
    return record


def _parcel(content: RecordDict) -> Parcel:
    try:
        message = content.config_records["message"]["bytes"]
        if not isinstance(message, bytes):
            raise ProtocolError("A message came without its bytes.")
        if "payload" not in content.array_records:
            return Parcel(message)
        array = content.array_records["payload"]["payload"]
    except KeyError:
        raise ProtocolError("A message came without one of its parts.") from None
    return Parcel(message, array.data)
