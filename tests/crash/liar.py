"""A node's front door that answers in good form what is not true.

Lies come in phases. In each phase there is one kind of lie about blocks or logs, told to each question or to some; so a
liar may be of one piece for a while: the same made-up branch, the same wrong time of each block, whoever asks. Of other
lies, and of those that nobody has heard yet, the one told least comes first.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from random import Random
from typing import Any

from aiohttp import web
from eth_hash.auto import keccak

from tests.crash.proxy import Proxy

SELECTORS = {
    keccak(signature.encode())[:4].hex(): signature.partition("(")[0]
    for signature in (
        "executed(bytes32,uint32)",
        "proposal(bytes32)",
        "balanceOf(address)",
        "executeBatch(bytes32,uint32,address[],uint256[])",
        "propose(bytes32,uint64,uint64,address,uint256,uint32,bytes32[],bytes32,string)",
    )
}
VETOED = "0x" + keccak(b"ProposalVetoed(bytes32)")[:4].hex() + "00" * 32  # an error that holds a payout for good
WORD = 64  # hex digits


class Lie(Enum):
    LOG_LEFT_OUT = "log left out"
    LOG_INVENTED = "log invented"
    AMOUNT_CHANGED = "amount changed"
    RECIPIENT_CHANGED = "recipient changed"
    OTHER_BRANCH = "other branch"  # a made-up hash for each new block, linked by made-up parent hashes
    OTHER_TIME = "other time"
    STALE_HEAD = "stale head"
    FUTURE_HEAD = "future head"
    FINAL_TOO_EARLY = "final too early"
    DEAR_GAS = "dear gas"  # in headers
    BALANCE = "balance"
    NONCE_TOO_HIGH = "nonce too high"
    NONCE_TOO_LOW = "nonce too low"
    RECEIPT_HIDDEN = "receipt hidden"
    RECEIPT_INVENTED = "receipt invented"  # success, in the newest block
    FAILURE_CALLED_SUCCESS = "failure called success"
    SUCCESS_CALLED_FAILURE = "success called failure"
    EXECUTED_FLIPPED = "executed flipped"
    PROPOSAL_FLIPPED = "proposal flipped"
    TOKENS_HELD = "tokens held"  # another balance of a token
    WOULD_REVERT = "would revert"  # with an error that holds a payout for good
    WOULD_PASS = "would pass"
    GAS_TOO_LOW = "gas too low"
    GAS_TOO_HIGH = "gas too high"  # more than any transaction may have
    SENT_NAMED_WRONG = "sent, named wrong"  # passed on, with another hash for an answer
    SENT_TO_NOBODY = "sent to nobody"  # "ok", and not passed on
    SENT_CALLED_ERROR = "sent, called error"  # passed on


LIES: Mapping[str, tuple[Lie, ...]] = {
    "eth_getLogs": (Lie.LOG_LEFT_OUT, Lie.LOG_INVENTED, Lie.AMOUNT_CHANGED, Lie.RECIPIENT_CHANGED),
    "header": (
        *(Lie.OTHER_BRANCH, Lie.OTHER_TIME, Lie.STALE_HEAD, Lie.FUTURE_HEAD, Lie.FINAL_TOO_EARLY),
        Lie.DEAR_GAS,
    ),
    "eth_getBalance": (Lie.BALANCE,),
    "eth_getTransactionCount": (Lie.NONCE_TOO_HIGH, Lie.NONCE_TOO_LOW),
    "eth_getTransactionReceipt": (
        *(Lie.RECEIPT_HIDDEN, Lie.RECEIPT_INVENTED, Lie.FAILURE_CALLED_SUCCESS, Lie.SUCCESS_CALLED_FAILURE),
    ),
    "executed": (Lie.EXECUTED_FLIPPED,),
    "proposal": (Lie.PROPOSAL_FLIPPED,),
    "balanceOf": (Lie.TOKENS_HELD,),
    "simulated": (Lie.WOULD_REVERT, Lie.WOULD_PASS),
    "eth_estimateGas": (Lie.GAS_TOO_LOW, Lie.GAS_TOO_HIGH),
    "eth_sendRawTransaction": (Lie.SENT_NAMED_WRONG, Lie.SENT_TO_NOBODY, Lie.SENT_CALLED_ERROR),
}
"""By what is asked (see `_subject`)."""

OFTEN = 10
"""Some questions are rare, and may all come while the liar rests."""

Answer = dict[str, Any]


class Liar(Proxy):
    """Honest until `lie_by` is called, and again after `stop_lying`."""

    def __init__(self, node: str = "") -> None:
        super().__init__(node)
        self.told: Counter[Lie] = Counter()
        self.asked: Counter[str] = Counter()  # subjects, while it lied
        self._random: Random | None = None
        self._of_phase: Lie | None = None
        self._phases: Counter[Lie] = Counter()
        self._share = 0.0  # of questions that are lied to
        self._fork_above = -1  # blocks above it have made-up hashes
        self._made_up: dict[str, str] = {}  # real hash → made-up one; both as 64 digits

    # ── phases ──
    async def lie_by(self, random: Random, *, phase_s: float, rest_s: float = 0) -> None:
        """Phases of lies, with rests between them, until cancelled."""
        try:
            while True:
                await self._begin(random)
                await asyncio.sleep(phase_s)
                if rest_s:
                    self.stop_lying()
                    await asyncio.sleep(rest_s)
        finally:
            self.stop_lying()

    async def _begin(self, random: Random) -> None:
        self._random = random
        kinds = [lie for subject in OF_ONE_PIECE for lie in self._least_told(subject)]
        self._of_phase = min(kinds, key=lambda lie: (self.told[lie] > 0, self._phases[lie]))
        self._phases[self._of_phase] += 1
        self._share = random.choice([0.3, 1.0])
        self._made_up = {}
        self._fork_above = int(await self._result("eth_blockNumber"), 16) - 1

    def _least_told(self, subject: str) -> list[Lie]:
        assert self._random is not None
        # What can be invented of nothing waits for its turn.
        by_chance = {lie: self._random.random() + (lie is Lie.LOG_INVENTED) for lie in LIES.get(subject, ())}
        return sorted(by_chance, key=lambda lie: (self.told[lie], by_chance[lie]))

    def stop_lying(self) -> None:
        self._random = None
        self._made_up = {}

    def untold(self) -> set[Lie]:
        return set(Lie) - set(self.told)

    def silent(self) -> set[str]:
        """What it was asked often enough, and never lied about."""
        return {
            subject
            for subject, lies in LIES.items()
            if self.asked[subject] >= OFTEN and not any(self.told[lie] for lie in lies)
        }

    # ── answers ──
    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self._random is None:
            return web.Response(body=await self._ask(body), content_type="application/json")
        asked = json.loads(self._really(body.decode()))
        calls = asked if isinstance(asked, list) else [asked]
        answers = [await self._answer(call) for call in calls]
        text = json.dumps(answers if isinstance(asked, list) else answers[0])
        return web.Response(body=self._as_made_up(text).encode(), content_type="application/json")

    async def _answer(self, call: dict[str, Any]) -> Answer:
        """A lie, where one of this phase has something to say to the question, and it is told to this question too."""
        subject, random = _subject(call), self._random
        if random is None:
            return await self._honest(call)
        self.asked[subject] += 1
        lies = self._least_told(subject)
        unheard_logs = [lie for lie in self._least_told("eth_getLogs") if not self.told[lie]]
        if subject == "eth_getLogs" and unheard_logs:
            lies = unheard_logs
        elif unheard_logs and self._phases.total() <= LOGS_FIRST:
            lies = []
        elif subject in OF_ONE_PIECE:
            lies = [lie for lie in lies if lie is self._of_phase]
        lies = [lie for lie in lies if not self.told[lie] or random.random() < self._share]
        if lies and lies[0] is Lie.SENT_TO_NOBODY:
            self.told[lies[0]] += 1
            return _result(call, "0x" + keccak(bytes.fromhex(call["params"][0][2:])).hex())
        honest = await self._honest(call)
        for lie in lies:
            false = await self._distort(lie, call, honest)
            if false is not None and false != honest:
                self.told[lie] += 1
                return false
        return honest

    async def _distort(self, lie: Lie, call: dict[str, Any], honest: Answer) -> Answer | None:
        """What is said instead; None where this lie has nothing to say to this question."""
        if lie in WORDS:
            return WORDS[lie](call, honest)
        if lie not in MADE_UP or "error" in honest:
            return None
        if honest.get("result") is None and lie is not Lie.RECEIPT_INVENTED:
            return None
        result = await MADE_UP[lie](self, call, honest.get("result"))
        return None if result is None else _result(call, result)

    async def _honest(self, call: dict[str, Any]) -> Answer:
        answer: Answer = json.loads(await self._ask(json.dumps(call).encode()))
        return answer

    async def _result(self, method: str, *parameters: Any) -> Any:
        return (await self._honest({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}))["result"]

    async def _newest(self) -> dict[str, Any]:
        header: dict[str, Any] = await self._result("eth_getBlockByNumber", "latest", False)
        return header

    # ── a branch that nobody else has ──
    def _invent(self, number: int, real: str) -> None:
        if number > self._fork_above:
            digits = real[2:]
            self._made_up.setdefault(digits, keccak(bytes.fromhex(digits)).hex())

    def _as_made_up(self, text: str) -> str:
        for real, made_up in self._made_up.items():
            text = text.replace(real, made_up)
        return text

    def _really(self, text: str) -> str:
        for real, made_up in self._made_up.items():
            text = text.replace(made_up, real)
        return text

    async def _other_branch(self, call: dict[str, Any], header: dict[str, Any]) -> Any:
        number = int(header["number"], 16)
        if number <= self._fork_above:
            return None
        self._invent(number - 1, header["parentHash"])
        self._invent(number, header["hash"])
        return header | {"extraData": "0x6c6965"}  # the hashes are changed in the text, wherever they stand

    # ── blocks ──
    async def _other_time(self, call: dict[str, Any], header: dict[str, Any]) -> Any:
        return header | {"timestamp": hex(int(header["timestamp"], 16) + 37)}

    async def _stale_head(self, call: dict[str, Any], header: dict[str, Any]) -> Any:
        if call["params"][0] != "latest":
            return None
        return await self._result("eth_getBlockByNumber", hex(max(0, int(header["number"], 16) - 6)), False)

    async def _future_head(self, call: dict[str, Any], header: dict[str, Any]) -> Any:
        if call["params"][0] != "latest":
            return None
        number = int(header["number"], 16) + 1000
        return header | {"number": hex(number), "hash": "0x" + keccak(number.to_bytes(8)).hex()}

    async def _final_too_early(self, call: dict[str, Any], header: dict[str, Any]) -> Any:
        return await self._newest() if call["params"][0] == "finalized" else None

    async def _dear_gas(self, call: dict[str, Any], header: dict[str, Any]) -> Any:
        return header | {"baseFeePerGas": hex(10**15)}

    # ── logs ──
    async def _log_left_out(self, call: dict[str, Any], logs: list[dict[str, Any]]) -> Any:
        return logs[1:]

    async def _log_invented(self, call: dict[str, Any], logs: list[dict[str, Any]]) -> Any:
        if logs:  # one more in the last transaction
            last = logs[-1]
            return [*logs, last | {"logIndex": hex(int(last["logIndex"], 16) + 50)}]
        criteria = call["params"][0]
        if "blockHash" in criteria:
            header = await self._result("eth_getBlockByHash", criteria["blockHash"], False)
        else:
            header = await self._result("eth_getBlockByNumber", criteria["toBlock"], False)
        address, topics = criteria.get("address"), criteria.get("topics", [])
        if not (header and address and topics and topics[0]):
            return None
        made_up = {
            "address": address[0],
            "topics": [topics[0][0], *(group[0] if group else "0x" + "00" * 31 + "07" for group in topics[1:])],
            "data": "0x" + "00" * 31 + "07",
            "blockHash": header["hash"],
            "blockNumber": header["number"],
            "transactionHash": "0x" + "17" * 32,
            "transactionIndex": "0x0",
            "logIndex": "0x0",
            "removed": False,
        }
        return [made_up]

    async def _amount_changed(self, call: dict[str, Any], logs: list[dict[str, Any]]) -> Any:
        return _changed(logs, lambda log: {"data": _other(log["data"])} if len(log["data"]) > 2 else None)

    async def _recipient_changed(self, call: dict[str, Any], logs: list[dict[str, Any]]) -> Any:
        def other(log: dict[str, Any]) -> dict[str, Any] | None:
            topics = log["topics"]
            return {"topics": [*topics[:-1], _other(topics[-1])]} if len(topics) > 1 else None

        return _changed(logs, other)

    # ── accounts ──
    async def _balance(self, call: dict[str, Any], amount: str) -> Any:
        return hex(int(amount, 16) // 2 + 1)

    async def _nonce_too_high(self, call: dict[str, Any], nonce: str) -> Any:
        return hex(int(nonce, 16) + 3)

    async def _nonce_too_low(self, call: dict[str, Any], nonce: str) -> Any:
        return hex(max(0, int(nonce, 16) - 1))

    # ── receipts ──
    async def _receipt_hidden(self, call: dict[str, Any], receipt: dict[str, Any]) -> Any:
        return HIDDEN

    async def _receipt_invented(self, call: dict[str, Any], receipt: dict[str, Any] | None) -> Any:
        if receipt is not None:
            return None
        newest = await self._newest()
        return {
            "transactionHash": call["params"][0],
            "blockNumber": newest["number"],
            "blockHash": newest["hash"],
            "status": "0x1",
            "gasUsed": "0x5208",
            "effectiveGasPrice": "0x3b9aca00",
            "logs": [],
        }

    async def _failure_called_success(self, call: dict[str, Any], receipt: dict[str, Any]) -> Any:
        return receipt | {"status": "0x1"}

    async def _success_called_failure(self, call: dict[str, Any], receipt: dict[str, Any]) -> Any:
        return receipt | {"status": "0x0", "logs": []}

    # ── views ──
    async def _flipped(self, call: dict[str, Any], answer: str) -> Any:
        return "0x" + (answer[2:-1] + ("0" if answer[-1] == "1" else "1"))

    async def _proposal_flipped(self, call: dict[str, Any], answer: str) -> Any:
        return "0x" + ("00" if int(answer[2 : 2 + WORD], 16) else "ab") * ((len(answer) - 2) // 2)

    async def _gas_too_low(self, call: dict[str, Any], gas: str) -> Any:
        return hex(30_000)

    async def _gas_too_high(self, call: dict[str, Any], gas: str) -> Any:
        return hex(2**25)

    # ── sending ──
    async def _named_wrong(self, call: dict[str, Any], tx_id: str) -> Any:
        return _other(tx_id)


HIDDEN = object()
OF_ONE_PIECE = ("eth_getLogs", "header")
LOGS_FIRST = 5
"""Phases at most in which nothing but logs is lied about, until all such lies were told: every endpoint is asked for
all else, for logs only those that are asked first, and whoever was caught at a lie is asked last."""
MADE_UP: Mapping[Lie, Callable[[Liar, dict[str, Any], Any], Awaitable[Any]]] = {
    Lie.LOG_LEFT_OUT: Liar._log_left_out,
    Lie.LOG_INVENTED: Liar._log_invented,
    Lie.AMOUNT_CHANGED: Liar._amount_changed,
    Lie.RECIPIENT_CHANGED: Liar._recipient_changed,
    Lie.OTHER_BRANCH: Liar._other_branch,
    Lie.OTHER_TIME: Liar._other_time,
    Lie.STALE_HEAD: Liar._stale_head,
    Lie.FUTURE_HEAD: Liar._future_head,
    Lie.FINAL_TOO_EARLY: Liar._final_too_early,
    Lie.DEAR_GAS: Liar._dear_gas,
    Lie.BALANCE: Liar._balance,
    Lie.NONCE_TOO_HIGH: Liar._nonce_too_high,
    Lie.NONCE_TOO_LOW: Liar._nonce_too_low,
    Lie.RECEIPT_HIDDEN: Liar._receipt_hidden,
    Lie.RECEIPT_INVENTED: Liar._receipt_invented,
    Lie.FAILURE_CALLED_SUCCESS: Liar._failure_called_success,
    Lie.SUCCESS_CALLED_FAILURE: Liar._success_called_failure,
    Lie.EXECUTED_FLIPPED: Liar._flipped,
    Lie.PROPOSAL_FLIPPED: Liar._proposal_flipped,
    Lie.TOKENS_HELD: Liar._flipped,
    Lie.GAS_TOO_LOW: Liar._gas_too_low,
    Lie.GAS_TOO_HIGH: Liar._gas_too_high,
    Lie.SENT_NAMED_WRONG: Liar._named_wrong,
}
"""The result that stands in the place of an honest one; None: the honest one stays."""

WORDS: Mapping[Lie, Callable[[dict[str, Any], Answer], Answer | None]] = {
    Lie.WOULD_REVERT: lambda call, honest: _error(call, 3, "execution reverted", VETOED),
    Lie.WOULD_PASS: lambda call, honest: _result(call, "0x") if "error" in honest else None,
    Lie.SENT_CALLED_ERROR: lambda call, honest: _error(call, -32000, "nonce too low"),
}
"""Lies that turn results into errors or errors into results."""


def _subject(call: dict[str, Any]) -> str:
    method: str = call["method"]
    if method in ("eth_getBlockByNumber", "eth_getBlockByHash"):
        return "header"
    if method == "eth_call":
        name = SELECTORS.get(call["params"][0]["data"][2:10], "")
        return "simulated" if name in ("executeBatch", "propose") else name
    return method


def _result(call: dict[str, Any], result: Any) -> Answer:
    return {"jsonrpc": "2.0", "id": call["id"], "result": None if result is HIDDEN else result}


def _error(call: dict[str, Any], code: int, message: str, data: str | None = None) -> Answer:
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": call["id"], "error": error}


def _other(data: str) -> str:
    """The same but for the last digit."""
    return data[:-1] + ("2" if data[-1] == "1" else "1")


def _changed(
    logs: list[dict[str, Any]], change: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> list[dict[str, Any]] | None:
    """`logs` with the first of them changed that can be."""
    for index, log in enumerate(logs):
        changes = change(log)
        if changes is not None:
            return [*logs[:index], log | changes, *logs[index + 1 :]]
    return None
