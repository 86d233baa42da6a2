"""What the deployed engine relies on in flwr 1.41, below its documented interface.

Whoever moves the pin reads this first: each test names what is used, and fails where it changed.
"""

import asyncio
import inspect
import ssl
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.routing import iter_route_contexts
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.common.constant import (
    HEARTBEAT_DEFAULT_INTERVAL,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    SUPERLINK_NODE_ID,
    TIMESTAMP_HEADER,
    Status,
    SubStatus,
)
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import fleet_pb2, message_pb2
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore import sql_mixin, telemetry
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_IN_MEMORY_DB_NAME,
    NOOP_FEDERATION_ID,
    OBJECT_PUSH_SESSION_TTL_SECONDS,
    SQLITE_PRAGMAS,
    TaskType,
)
from flwr.supercore.error import FlowerError
from flwr.supercore.error.catalog import API_ERROR_MAP
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.superlink.auth_plugin import ControlAuthnPlugin
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from uvicorn import Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from federation.engine.superlink import DATABASE_BUSY_MS, TLS_BUFFER_BYTES, flower_app

MIB = 1 << 20
KEY = b"a node key"


@pytest.fixture
def state() -> LinkState:
    found = flower_app().state.linkstate_factory.state()
    assert isinstance(found, LinkState)
    return found


def parameters(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def run_of(state: LinkState) -> tuple[int, int]:
    """A run that is running, and its task."""
    run = state.create_run(
        None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
    )
    (found,) = state.get_run_info(run_ids=[run])
    assert found.primary_task_id is not None
    task = found.primary_task_id
    assert state.claim_task(task)
    assert state.activate_task(task)
    assert state.get_run_status({run})[run].status == Status.RUNNING
    return run, task


def node_of(state: LinkState, key: bytes = KEY) -> int:
    node = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 0, name="one")
    assert state.activate_node(node, HEARTBEAT_DEFAULT_INTERVAL)
    return node


def message_to(run: int, node: int, payload: bytes = b"x" * 100) -> Message:
    record = RecordDict({"message": ConfigRecord({"bytes": b"said"})})
    record["payload"] = ArrayRecord({"payload": Array("|u1", (len(payload),), "t", payload)})
    message = make_message(
        Metadata(
            run_id=run,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=node,
            reply_to_message_id="",
            group_id="group",
            created_at=time.time(),
            ttl=100.0,
            message_type="train",
        ),
        content=record,
    )
    message.metadata.delivered_at = ""
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def stored(state: LinkState, run: int, message: Message) -> None:
    session = state.start_session(run)
    objects = get_all_nested_objects(message)
    for object_id in state.preregister_object_tree(get_object_tree(message), session):
        assert state.store_object(run, session, object_id, objects[object_id].deflate())
    assert state.store_message_ins(remove_content_from_message(message)) == message.object_id


def test_the_version() -> None:
    assert version("flwr").startswith("1.41.")


def test_an_app_is_made_from_a_configuration_and_a_lifespan_class() -> None:
    assert parameters(create_app) == ["config", "superlink_lifespan_class"]
    assert [each.name for each in fields(SuperLinkLifespanConfig)] == [
        "control_address", "health_server_address", "host", "port", "insecure", "certificates",
        "superexec_auth_secret", "authn_plugin", "event_log_plugin", "fleet_event_log_plugin",
        "enable_event_log", "artifact_provider", "enable_supernode_auth", "fleet_api_type",
        "fleet_api_address", "simulation", "ssl_ca_certfile", "ssl_certfile", "ssl_keyfile",
        "database", "isolation", "runtime_dependency_install",
    ]  # fmt: skip
    app = flower_app()
    assert app.state.enable_supernode_auth is True
    assert type(app.state.linkstate_factory.state()).__name__ == "InMemoryLinkState"
    assert FLWR_IN_MEMORY_DB_NAME == ":flwr-in-memory:"
    assert ControlAuthnPlugin.__abstractmethods__ == {
        "__init__", "get_login_details", "validate_tokens_in_metadata", "get_auth_tokens",
        "refresh_tokens",
    }  # fmt: skip


def test_the_calls_of_a_fleet() -> None:
    paths = {found.route.path for found in iter_route_contexts(flower_app().routes)}  # type: ignore[attr-defined]
    assert {path for path in paths if path.startswith("/v1/fleet/")} == {
        f"/v1/fleet/{name}"
        for name in (
            "register-node", "activate-node", "deactivate-node", "unregister-node",
            "send-node-heartbeat", "pull-messages", "push-messages", "get-run", "get-fab",
            "push-object", "pull-object", "confirm-message-received",
        )
    }  # fmt: skip


def test_what_fleet_handlers_take() -> None:
    assert parameters(fleet_handlers.send_node_heartbeat) == ["request", "state"]
    assert parameters(fleet_handlers.pull_messages) == ["request", "state", "store"]
    assert parameters(fleet_handlers.push_messages) == ["request", "state"]
    assert parameters(fleet_handlers.pull_object) == ["request", "state"]
    assert parameters(fleet_handlers.push_object) == ["request", "state"]
    assert [each.name for each in fleet_pb2.PullMessagesRequest.DESCRIPTOR.fields] == [
        "node", "message_ids",
    ]  # fmt: skip
    assert [each.name for each in message_pb2.PushObjectRequest.DESCRIPTOR.fields] == [
        "node", "run_id", "object_id", "object_content", "session_id",
    ]  # fmt: skip


def test_errors_have_a_status() -> None:
    with pytest.raises(FlowerError) as raised:
        fleet_handlers.activate_node(
            fleet_pb2.ActivateNodeRequest(public_key=b"nobody", heartbeat_interval=30),
            flower_app().state.linkstate_factory.state(),
        )
    assert API_ERROR_MAP[raised.value.code].http_status_code == 412
    assert API_ERROR_MAP[raised.value.code].public_message


def test_what_nodes_may_do(state: LinkState) -> None:
    node = node_of(state)
    assert state.get_node_id_by_public_key(KEY) == node
    # one that is online cannot begin anew; so it is said to have ended before
    assert not state.activate_node(node, HEARTBEAT_DEFAULT_INTERVAL)
    assert state.deactivate_node(node)
    assert state.activate_node(node, HEARTBEAT_DEFAULT_INTERVAL)
    assert state.acknowledge_node_heartbeat(node, HEARTBEAT_DEFAULT_INTERVAL)
    with pytest.raises(ValueError, match="already in use"):
        state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, KEY, 0)
    state.delete_node(NOOP_FLWR_AID, node)
    assert state.get_node_id_by_public_key(KEY) is None
    with pytest.raises(ValueError, match="already in use"):
        state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, KEY, 0)
    never = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, b"other", 0)
    state.delete_node(NOOP_FLWR_AID, never)
    assert not state.acknowledge_node_heartbeat(never, HEARTBEAT_DEFAULT_INTERVAL)


def test_a_run_ends_where_its_task_is_not_heard_of(state: LinkState) -> None:
    run, task = run_of(state)
    assert state.acknowledge_task_heartbeat(task)
    tokens = state.task_token_store  # type: ignore[attr-defined]
    tokens[task].active_until -= timedelta(minutes=5)
    assert not state.acknowledge_task_heartbeat(task)
    assert state.get_run_status({run})[run].status == Status.FINISHED
    run, task = run_of(state)
    assert state.finish_task(task, SubStatus.COMPLETED, "")
    assert state.get_run_status({run})[run].sub_status == SubStatus.COMPLETED


def test_a_message_goes_out_once_and_its_answer_comes_back(state: LinkState) -> None:
    run, task = run_of(state)
    node = node_of(state)
    message = message_to(run, node)
    stored(state, run, message)
    pull = PullMessagesRequest(node=Node(node_id=node), message_ids=["any"])
    response = fleet_handlers.pull_messages(pull, state, state.object_store)
    (head,), (tree,) = response.messages_list, response.message_object_trees
    assert head.metadata.message_id == message.object_id
    again = fleet_handlers.pull_messages(pull, state, state.object_store)
    assert not again.messages_list
    contents = {}
    for each in iterate_object_tree(tree):
        wanted = PullObjectRequest(node=Node(node_id=node), run_id=run, object_id=each.object_id)
        contents[each.object_id] = fleet_handlers.pull_object(wanted, state).object_content
    got = inflate_object_from_contents(head.metadata.message_id, contents)
    assert isinstance(got, Message)
    got.metadata.__dict__["_message_id"] = head.metadata.message_id
    assert got.content == message.content
    reply = Message(got.content, reply_to=got)
    assert reply.metadata.reply_to_message_id == message.object_id
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (node, SUPERLINK_NODE_ID)
    reply.metadata.__dict__["_message_id"] = reply.object_id
    push = PushMessagesRequest(
        node=Node(node_id=node),
        messages_list=[message_to_proto(remove_content_from_message(reply))],
        message_object_trees=[get_object_tree(reply)],
    )
    pushed = fleet_handlers.push_messages(push, state)
    # what the request had too is in the store already
    assert set(pushed.objects_to_push) == {reply.object_id}
    objects = get_all_nested_objects(reply)
    for session, is_stored in (("another", False), (pushed.session_id, True)):
        put = PushObjectRequest(
            node=Node(node_id=node),
            run_id=run,
            object_id=reply.object_id,
            object_content=objects[reply.object_id].deflate(),
            session_id=session,
        )
        assert fleet_handlers.push_object(put, state).stored is is_stored
    (found,) = state.get_message_res({message.object_id}, run)
    assert found.metadata.message_id == reply.object_id
    store = state.object_store
    # an object stays for as long as a message has it
    store.delete(reply.object_id)
    assert len(store) == len(get_all_nested_objects(message))
    state.delete_messages({message.object_id})
    store.delete(message.object_id)
    assert len(store) == 0
    assert (state.num_message_ins(), state.num_message_res()) == (0, 0)
    state.finish_task(task, SubStatus.COMPLETED, "")
    with pytest.raises(FlowerError):
        fleet_handlers.push_messages(push, state)


def test_a_node_that_was_never_online_gets_no_message(state: LinkState) -> None:
    run, _ = run_of(state)
    node = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, KEY, 0)
    assert state.store_message_ins(remove_content_from_message(message_to(run, node))) is None


def test_a_run_is_cleaned_up(state: LinkState) -> None:
    run, _ = run_of(state)
    stored(state, run, message_to(run, node_of(state)))
    state.start_session(run)
    state.cleanup_run(run)
    assert state.num_message_ins() == 0
    assert len(state.object_store) == 0
    assert not state._object_push_sessions  # type: ignore[attr-defined]


def test_messages_are_trees_of_objects_with_children_first_and_chunks_of_five_mib() -> None:
    message = message_to(1, 2, bytes(range(256)) * (11 * MIB // 256))
    with no_object_id_recompute():
        objects = get_all_nested_objects(message)
        tree = get_object_tree(message)
    assert list(objects) == list(
        dict.fromkeys(each.object_id for each in iterate_object_tree(tree))
    )
    assert list(objects)[-1] == message.object_id
    kinds = [type(each).__name__ for each in objects.values()]
    assert sorted(kinds) == sorted(
        ["Message", "RecordDict", "ConfigRecord", "ArrayRecord", "Array"]
        + ["ArrayChunk"] * (kinds.count("ArrayChunk"))
    )
    assert max(len(each.deflate()) for each in objects.values()) < 5 * MIB + 1000
    # the id of a message does not depend on what it is called
    before = message.object_id
    message.metadata.__dict__["_message_id"] = "other"
    assert message.object_id == before


def test_a_message_without_its_content_keeps_its_head() -> None:
    message = message_to(1, 2)
    head = message_from_proto(message_to_proto(remove_content_from_message(message)))
    assert head.metadata.message_id == message.metadata.message_id
    assert head.metadata.group_id == "group"


def test_a_nodes_client_signs_each_request_and_lets_its_connections_be_used() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert bytes_to_public_key(public_key_to_bytes(key.public_key())) == key.public_key()
    signing = NodeAuthHttpInterceptor(key, key.public_key())
    request = httpx.Request("POST", "https://host/path")
    sent: list[httpx.Request] = []

    def send(context: ProtobufRequestContext) -> httpx.Response:
        sent.append(context.request)
        return httpx.Response(200)

    signing.intercept(ProtobufRequestContext("m", PullMessagesRequest(), request), send)
    assert {
        FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER, TIMESTAMP_HEADER,
    } <= set(sent[0].headers)  # fmt: skip
    client = FleetHttpClient("https://host", interceptors=[signing], verify=True, timeout=1.0)
    assert isinstance(client._client, httpx.Client)
    assert {"ActivateNode", "DeactivateNode", "close"} <= set(dir(client))
    client.close()


@pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")
def test_a_database_in_a_file_waits_for_others(tmp_path: Path) -> None:
    before = vars(sql_mixin)["SQLITE_PRAGMAS"]
    try:
        state = flower_app(tmp_path / "state.db").state.linkstate_factory.state()
        with state._engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        state._engine.dispose()
        state.object_store._engine.dispose()
    finally:
        vars(sql_mixin)["SQLITE_PRAGMAS"] = before
    assert found == DATABASE_BUSY_MS
    assert dict(SQLITE_PRAGMAS)["busy_timeout"] == "5000"


def test_names_of_what_is_switched_off_and_times_that_are_counted_on() -> None:
    assert telemetry.FLWR_TELEMETRY_ENABLED in {"0", "1"}
    assert HEARTBEAT_DEFAULT_INTERVAL == 30
    assert OBJECT_PUSH_SESSION_TTL_SECONDS == 180


def test_how_much_is_held_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def held_bytes() -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ready = asyncio.get_running_loop().create_future()
        made = SSLProtocol(
            asyncio.get_running_loop(), asyncio.Protocol(), context, ready, server_side=True
        )
        vars(made)["_app_transport"].close()
        return len(vars(made)["_ssl_buffer"])

    monkeypatch.setattr(SSLProtocol, "max_size", TLS_BUFFER_BYTES)
    assert asyncio.run(held_bytes()) == TLS_BUFFER_BYTES


def test_the_server_in_front_of_it() -> None:
    assert inspect.iscoroutinefunction(Server.startup)
    assert parameters(Server.startup) == ["sockets"]
    assert "app_state" in parameters(HttpToolsProtocol.__init__)
    assert parameters(HttpToolsProtocol.connection_made) == ["transport"]
    assert parameters(HttpToolsProtocol.connection_lost) == ["exc"]
    assert parameters(HttpToolsProtocol.data_received) == ["data"]
    assert parameters(HttpToolsProtocol.on_header) == ["name", "value"]
    assert parameters(HttpToolsProtocol.on_body) == ["body"]
    for told in (HttpToolsProtocol.on_headers_complete, HttpToolsProtocol.on_message_complete):
        assert parameters(told) == []
    assert {"keep_alive", "response_complete"} <= set(
        RequestResponseCycle.__init__.__code__.co_names
    )
