"""Ask a coordinator about runs. Whatever goes wrong ends in one sentence that says what to do."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final, Self, cast

import grpc

from federation.channel import AGAIN_S, DEADLINE_S, REPLY_BYTES_MAX, UnreachedError, failure
from federation.proto import runs_pb2 as wire
from federation.proto.runs_pb2_grpc import RunsStub
from federation.registry.address import split_address
from federation.registry.credentials import Credentials
from federation.registry.plain import plain
from federation.registry.server import REQUEST_BYTES_MAX
from federation.registry.source import AbsentError
from federation.runs.event import Told, parse_event
from federation.runs.facts import RunFacts
from privacy.errors import InputError, NotVerifiedError

STREAM_DEADLINE_S: Final = 45.0
"""A stream is open for 20 s at most; where the line is dead, this is when it is noticed."""
_ROOM_BYTES: Final = 16 << 10
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", REPLY_BYTES_MAX),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # a client that waits for its coordinator to come back finds it within seconds
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


# a line that breaks in the middle has many names
_PASSING: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
)


class RunsClient:
    """A connection to one coordinator; nothing that it returns is verified.

    Every call raises:
        UnreachedError: the coordinator does not answer, or has too much to do.
        AbsentError: there is no such run, or it is not the caller's to see.
        InputError: the question makes no sense.
        RefusedError: the coordinator says no.
        NotVerifiedError: the answer is none.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Prepare a connection; it is made with the first call.

        Args:
            address: `host:port` of the coordinator's registry; its certificate names the host.
            credentials: Of the caller.
            deadline_s: Of each call but `watch`, in seconds, at most 60.

        Raises:
            InputError: the address is none.
        """
        split_address(address)
        self.address = address
        self._deadline_s = deadline_s
        self._channel = grpc.secure_channel(
            address,
            grpc.ssl_channel_credentials(
                root_certificates=credentials.authority,
                private_key=credentials.key,
                certificate_chain=credentials.certificate,
            ),
            options=_OPTIONS,
        )
        self._stub = RunsStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def launch(self, manifest: bytes, signature: bytes, *, data: bytes, rules: bytes) -> RunFacts:
        """Begin a run; see `LaunchRequest`.

        Raises:
            InputError: it is too large.
        """
        if len(manifest) + len(data) + len(rules) > REQUEST_BYTES_MAX - _ROOM_BYTES:
            raise InputError("the run's manifest is too large to be sent; select fewer members")
        request = wire.LaunchRequest(manifest=manifest, signature=signature, data=data, rules=rules)
        with self._sentences():
            reply: wire.RunReply = self._stub.Launch(request, timeout=self._deadline_s)
        return self._run(reply.run)

    def runs(self, like: str = "") -> tuple[RunFacts, ...]:
        """Return the runs that the caller may see, oldest first.

        Args:
            like: Only those whose names hold this.
        """
        with self._sentences():
            reply: wire.RunsReply = self._stub.Runs(
                wire.RunsRequest(like=like), timeout=self._deadline_s
            )
        return tuple(self._run(one) for one in reply.runs)

    def _patiently(self, like: str) -> tuple[RunFacts, ...]:
        """As `runs`; a coordinator that begins at this moment is given some seconds."""
        for wait_s in AGAIN_S:
            try:
                return self.runs(like)
            except UnreachedError:
                time.sleep(wait_s)
        return self.runs(like)

    def run(self, run: str) -> RunFacts:
        """Return the one run that has this name, or whose name alone holds this; or the `last`.

        Raises:
            AbsentError: There is none, or there are several.
        """
        found = self._patiently("" if run == "last" else run)
        exact = [one for one in found if one.run == run]
        if exact or (run == "last" and found):
            return exact[0] if exact else found[-1]
        if len(found) != 1:
            what = f"could be any of {len(found)} runs" if found else "is no run"
            raise AbsentError(f"{run} {what} at the coordinator; see tacit run list.")
        return found[0]

    def watch(self, run: str, start: int) -> Iterator[Told]:
        """Yield what happened in a run from a number on; the stream ends after a while."""
        at = start
        with self._sentences(passing=_PASSING):
            for reply in self._stub.Watch(
                wire.WatchRequest(run=run, start=start), timeout=STREAM_DEADLINE_S
            ):
                told = parse_event(reply.event)
                if told.number != at:
                    raise self._nonsense()
                yield told
                at += 1

    def stop(self, run: str) -> RunFacts:
        """End a run for good."""
        with self._sentences():
            reply: wire.RunReply = self._stub.Stop(
                wire.StopRequest(run=run), timeout=self._deadline_s
            )
        return self._run(reply.run)

    def resume(self, run: str) -> RunFacts:
        """Go on with a run that was interrupted."""
        with self._sentences():
            reply: wire.RunReply = self._stub.Resume(
                wire.ResumeRequest(run=run), timeout=self._deadline_s
            )
        return self._run(reply.run)

    def report(self, run: str, *, file: bytes, card: bytes) -> RunFacts:
        """Put the hashes of a finished run's model file and card on record."""
        with self._sentences():
            reply: wire.RunReply = self._stub.Report(
                wire.ReportRequest(run=run, file=file, card=card), timeout=self._deadline_s
            )
        return self._run(reply.run)

    def _run(self, told: wire.Run) -> RunFacts:
        """What was told, with nothing in it that a terminal could be harmed by."""
        return RunFacts(
            run=plain(told.run),
            name=plain(told.name),
            task=plain(told.task),
            state=plain(told.state),
            launcher=plain(told.launcher),
            members=tuple(plain(member) for member in told.members),
            rounds=told.rounds,
            of=told.of,
            launched_ms=told.launched_ms,
            reason=plain(told.reason),
        )

    def _nonsense(self) -> NotVerifiedError:
        return NotVerifiedError(
            f"the coordinator {self.address} sent what is no answer; update tacit at both ends"
        )

    @contextmanager
    def _sentences(self, *, passing: Collection[grpc.StatusCode] = ()) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            where = f"the coordinator {self.address}"
            call = cast("grpc.Call", error)  # gRPC's errors of calls are both
            if call.code() is grpc.StatusCode.NOT_FOUND:
                raise AbsentError(f"{where} says: {plain(call.details() or '')}") from None
            found = failure(error, where)
            raise UnreachedError(str(found)) if call.code() in passing else found from None
