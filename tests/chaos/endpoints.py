"""What a process sees of a Solana cluster: endpoints that answer late, wrongly or not at all, in one Python process.

The adapter and the methods that answer it are those that a daemon and a local chain have; only the wire is missing.
Not everything may go wrong at once: of what is final, at most one endpoint tells lies, and only beside others.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana.rpc import SolanaRpc
from bridge.domain.errors import BridgeError, ChainUnavailable
from bridge.simulation.svm.admission import MAX_PROCESSING_AGE
from bridge.simulation.svm.methods import METHODS
from bridge.simulation.svm.parameters import Parameters
from bridge.simulation.svm.refusals import INTERNAL_ERROR, RpcRefusal, node_unhealthy
from bridge.simulation.svm.transactions import parse
from tests.chaos.cluster import Cluster
from tests.chaos.process import Process
from tests.chaos.trouble import Fault

TURNS = 0.25
"""How often a call lets others go first: each of them would make runs long, and none would make all reads atomic."""


class Wire(SolanaRpc):
    """One process's way to all endpoints."""

    def __init__(self, cluster: Cluster, process: Process) -> None:
        super().__init__([f"http://endpoint-{number}" for number in range(len(cluster.views))])
        self._cluster = cluster
        self._process = process

    async def _post(self, endpoint: Endpoint, request: Any, what: str) -> bytes:
        process, strikes = self._process, self._process.trouble.strikes
        if process.trouble.chance.random() < TURNS or what == "sendTransaction":
            await process.turn(what)
        process.check()
        if strikes(Fault.NO_ANSWER):
            raise self._silent(endpoint, what)
        view = self.endpoints.index(endpoint)
        if isinstance(request, list):
            answer: Any = [self._answer(view, one) for one in request]
        elif what == "sendTransaction":
            answer = self._send(endpoint, view, request)
            await process.turn("sendTransaction answered")
        else:
            answer = self._answer(view, request)
        endpoint.succeeded(1.0 + view)
        return orjson.dumps(answer)

    def _silent(self, endpoint: Endpoint, what: str) -> ChainUnavailable:
        endpoint.failed()
        return ChainUnavailable(f"{endpoint.name} did not answer {what}: time-out")

    def _send(self, endpoint: Endpoint, view: int, request: Any) -> dict[str, Any]:
        strikes = self._process.trouble.strikes
        raw = base64.b64decode(request["params"][0])
        self._cluster.offered.add(bytes(parse(raw).transaction.signatures[0]))
        if strikes(Fault.LOST):
            raise self._silent(endpoint, "sendTransaction")
        submit = self._cluster.chain.submit
        self._cluster.chain.submit = lambda wire, slot=0: None  # type: ignore[method-assign]  # the leader decides
        try:
            answer = self._answer(view, request)
        finally:
            self._cluster.chain.submit = submit  # type: ignore[method-assign]
        if "result" in answer and not strikes(Fault.DROPPED):
            self._cluster.submit(raw)
        if strikes(Fault.ACCEPTED_BUT_ERROR):
            raise self._silent(endpoint, "sendTransaction")
        return answer

    def _answer(self, number: int, request: Any) -> dict[str, Any]:
        method, envelope = request["method"], {"jsonrpc": "2.0", "id": request["id"]}
        try:
            if method == "simulateTransaction" and self._process.trouble.strikes(Fault.FAILED_PREFLIGHT):
                raise node_unhealthy(None)
            result = METHODS[method](self._cluster.views[number], Parameters(request.get("params")))
        except RpcRefusal as refusal:
            return {**envelope, "error": refusal.to_json()}
        except BridgeError as error:
            return {**envelope, "error": RpcRefusal(INTERNAL_ERROR, f"Internal error: {error}").to_json()}
        return {**envelope, "result": self._bent(number, method, result)}

    def _bent(self, number: int, method: str, result: Any) -> Any:
        """What a node says instead of the truth."""
        strikes, cluster = self._process.trouble.strikes, self._cluster
        if method == "getSignatureStatuses" and strikes(Fault.STATUS_FORGOTTEN):
            return {**result, "value": [None] * len(result["value"])}
        if method == "getTransaction" and strikes(Fault.NULL_RECEIPT):
            return None
        if method == "getLatestBlockhash" and cluster.dead and strikes(Fault.DEAD_BLOCKHASH):
            block = cluster.dead[-1]
            value = {"blockhash": str(block.hash), "lastValidBlockHeight": block.height + MAX_PROCESSING_AGE}
            return {**result, "value": value}
        liar = len(cluster.views) - 1
        if method in ("getAccountInfo", "getMultipleAccounts") and number == liar > 0 and strikes(Fault.LIE):
            nothing = None if method == "getAccountInfo" else [None] * len(result["value"])
            return {**result, "value": nothing}
        return result
