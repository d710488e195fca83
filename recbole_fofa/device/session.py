"""A device as an object: it talks to the cloud in bytes, and counts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recbole_fofa.device.runtime import DeviceRuntime


class DeviceSession:
    """One user's device, from session to session.

    Args:
        runtime: With the device's bundle.
        send: Hands a message to the cloud and returns what comes back.

    Attributes:
        sent: Bytes that went up, so far.
        received: Bytes that came down, so far.
        sessions: Sessions that were begun.
        requests: Recommendations that were made.
    """

    def __init__(self, runtime: DeviceRuntime, send: Callable[[bytes], bytes]) -> None:
        self._runtime = runtime
        self._send = send
        self.sent = self.received = self.sessions = self.requests = 0

    def begin(self, behaviour: Sequence[str]) -> tuple[int, ...]:
        """Adapt to the user's items, oldest first; returns the structure.

        Raises:
            DeviceError: If the cloud's answer cannot be used; the network before stays in use.
        """
        message = self._runtime.uplink(behaviour).to_bytes()
        answer = self._send(message)
        self.sent += len(message)
        self.received += len(answer)
        self._runtime.apply(answer)
        self.sessions += 1
        payload = self._runtime.payload
        return payload.structure if payload is not None else ()

    def recommend(self, recent: Sequence[str], candidates: Sequence[str], k: int = 10) -> list[str]:
        """The ``k`` best candidates for the user's items, oldest first."""
        self.requests += 1
        return self._runtime.recommend(recent, candidates, k)
