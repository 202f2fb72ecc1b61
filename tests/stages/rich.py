"""A report in which everything happens: two chains, five assets, breaks in every state, corrections, a reorganisation,
transactions that failed, checks that were skipped. What tests of pages look at; no database is needed for it."""

from __future__ import annotations

import hashlib

from bridge.domain.figures import Lag, LevelTally, Milestones, Tally, TrendPoint
from bridge.domain.ledger import Asset
from bridge.domain.reports.assembly import assemble
from bridge.domain.reports.facts import (
    Attention,
    BalanceCheck,
    BreakEvent,
    BreakFact,
    ChainScope,
    CheckCount,
    CorrectionFact,
    CutOff,
    DistributionFact,
    Facts,
    FinalizedSpan,
    Flow,
    GasFact,
    HeldFact,
    Reconciliation,
    RuleVersion,
    SealFact,
    ValueFact,
)
from bridge.domain.reports.report import Origin, Report
from bridge.domain.units import Address, AssetId
from bridge.domain.windows import Window

DAY = 86_400
START = 1_793_491_200  # 2026-11-01
PERIOD = Window(START, START + 30 * DAY)
END = PERIOD.end


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _address(name: str) -> Address:
    return Address(digest(name)[:20])


def _token(reference: str, chain: str, symbol: str, decimals: int) -> Asset:
    address = _address(symbol)
    return Asset(AssetId(f"{reference}/erc20:0x{address.hex()}"), chain, address, symbol, decimals)


MAIN, ROLLUP = "eip155:1", "eip155:8453"
USDX, DAIX = _token(MAIN, "mainnet", "USDX", 6), _token(MAIN, "mainnet", "DAIX", 18)
PTSX = _token(ROLLUP, "rollup", "PTSX", 8)
ETH = Asset(AssetId(f"{MAIN}/slip44:60"), "mainnet", None, "ETH", 18)
COIN = Asset(AssetId(f"{ROLLUP}/slip44:60"), "rollup", None, "COIN", 18)
ASSETS = (USDX, DAIX, PTSX, ETH, COIN)
VAULT, DISTRIBUTOR, CLAIMS, OPERATOR = (
    f"{name}:0x{_address(name).hex()}" for name in ("vault", "distributor", "claims", "operator:gas")
)
SIDE_VAULT, SIDE_OPERATOR = (f"{name}:0x{_address(name + ' side').hex()}" for name in ("vault", "operator:gas"))
WEI = 10**18


def rich_facts() -> Facts:
    earlier = (
        Flow(VAULT, "surplus:opening", USDX.id, "opening", False, 250_000 * 10**6),
        Flow(VAULT, "surplus:opening", DAIX.id, "opening", False, 48_000 * WEI + 123_456_789),
        Flow(OPERATOR, "surplus:opening", ETH.id, "opening", False, 3 * WEI),
        Flow(SIDE_OPERATOR, "surplus:opening", COIN.id, "opening", False, 5 * WEI),
        Flow("surplus:unallocated", "payable", USDX.id, "decision", False, 12_500_250_000),
    )
    return Facts(
        chains=(
            ChainScope(
                "mainnet",
                "evm",
                MAIN,
                digest("genesis"),
                19_000_000,
                CutOff(21_473_912, digest("cut"), END - 12),
                21_473_912,
                2,
                5,
                CutOff(21_257_300, digest("opening"), START - 7),
            ),
            ChainScope(
                "rollup",
                "evm",
                ROLLUP,
                digest("genesis of the rollup"),
                11_000_000,
                CutOff(23_001_337, digest("cut of the rollup"), END - 2),
                23_001_337,
                0,
                0,
                CutOff(21_705_338, digest("opening of the rollup"), START - 2),
                ended=False,
            ),
        ),
        assets=ASSETS,
        reconciliation=Reconciliation(40_117, END + 61, "breaks"),
        flows=_flows(),
        balance_checks=(
            BalanceCheck(VAULT, USDX.id, 359_128_499_999),
            BalanceCheck(DISTRIBUTOR, USDX.id, 399_400_000),
            BalanceCheck(VAULT, DAIX.id, 16_000 * WEI + 123_456_789 - 123_456_789_123),
            BalanceCheck(CLAIMS, DAIX.id, None),
            BalanceCheck(SIDE_VAULT, PTSX.id, 1_000_000 * 10**8),
            BalanceCheck(OPERATOR, ETH.id, 3 * WEI - 41_300_000_000_000_123),
            BalanceCheck(SIDE_OPERATOR, COIN.id, 5 * WEI - 900_000_000_000_007),
        ),
        checks=(
            CheckCount("event", "mainnet", "agreed", None, 43_201),
            CheckCount("event", "mainnet", "agreed", "settled by a person: duplicate", 1),
            CheckCount("balance", "mainnet", "agreed", None, 5),
            CheckCount("balance", "mainnet", "broken", "unexplained_balance", 1),
            CheckCount("balance", "mainnet", "skipped", "no endpoint has the state of block 21,473,912 any more", 1),
            CheckCount("balance", "rollup", "agreed", None, 2),
            CheckCount("balance", "rollup", "skipped", "exempt: a rebasing token, by configuration", 3),
            CheckCount("nonce", "mainnet", "skipped", "2 included transactions are not settled yet", 1),
            CheckCount("completeness", "mainnet", "agreed", None, 9),
            CheckCount("suspense", "mainnet", "broken", "unexpected_in", 1),
            CheckCount("payout", "mainnet", "agreed", None, 4),
        ),
        spans=(
            FinalizedSpan(
                "mainnet", 21_257_301, 21_400_000, 1_427, 31_900, "https://one.example", "https://two.example"
            ),
            FinalizedSpan("mainnet", 21_400_001, 21_473_912, 739, 11_301, "https://two.example", "https://one.example"),
            FinalizedSpan("rollup", 21_705_339, 23_001_337, 12_960, 977, "rollup.example:8545", "rollup.example:8545"),
        ),
        rules=(
            RuleVersion("fee_window", 3, digest("fee_window"), 29, 1, 0, 0),
            RuleVersion("points_window_of_the_second_pool", 1, digest("points"), 4, 0, 0, 1),
        ),
        distributions=tuple(_distribution(day) for day in range(12)),
        breaks=_breaks(),
        gas=(
            GasFact("mainnet", 131, 3, 20_441_977, 41_300_000_000_000_123, 98_700_000_000_000_000),
            GasFact("rollup", 8, 0, 1_204_400, 900_000_000_000_007, 2_400_000_000_000_000),
        ),
        attention=(
            Attention("decision held", f"points_window 0x{digest('held').hex()}", "the price is older than 1 hour"),
            Attention("step held", f"0x{digest('step').hex()} step 3", "would revert: Blocked(); for 0x5afe…"),
        ),
        decided={USDX.id: 119_400_000_000, DAIX.id: 32_000 * WEI},
        period=PERIOD,
        earlier=earlier,
        history=_history(),
        corrections=_corrections(),
        values=(ValueFact(USDX.id, 359_527_899_999, 359_527_900_000), ValueFact(DAIX.id, 16_000 * WEI, 16_000 * WEI)),
        seals=(
            SealFact("mainnet", 44_310, 44_310, 91_204, digest("head")),
            SealFact("rollup", 1_004, 1_001, 91_201, digest("head of the rollup")),
        ),
        lags=(
            Lag("mainnet", 30_112, 1_840, 7_310, (2_101, 16_944, 8_077, 2_400, 502, 71, 17, 0, 0)),
            Lag("rollup", 901, 420, 980, (899, 1, 1, 0, 0, 0, 0, 0, 0)),
        ),
        trend=tuple(_trend(place) for place in range(24)),
        entries_automatic=45_311,
        entries_by_hand=3,
        held=(
            HeldFact(
                *(digest("distribution 11"), "mainnet", "fee_window", 0, 412, None, USDX.id, 166_600_001),
                *("waits for approval: 166 is above approve_above of 150; read it first", END - DAY),
            ),
            HeldFact(
                *(digest("distribution 3"), "mainnet", "fee_window", 1_002_087, 1, digest("frozen"), USDX.id, 733_000),
                *("cannot take the token: its account is frozen", END - 9 * DAY),
            ),
        ),
        given_up={USDX.id: 1_000_000},
    )


def rich_report() -> Report:
    return assemble(rich_facts(), Origin("0.1.0", digest("code").hex(), digest("configuration").hex()))


def _flows() -> tuple[Flow, ...]:
    return (
        Flow(VAULT, "suspense:in", USDX.id, "log", False, 241_128_500_000),
        Flow("suspense:in", "surplus:unallocated", USDX.id, "log", False, 241_121_500_000),
        Flow("surplus:unallocated", "payable", USDX.id, "decision", False, 119_400_000_000),
        Flow("surplus:unallocated", "surplus:carried", USDX.id, "decision", False, 600_001),
        Flow(DISTRIBUTOR, VAULT, USDX.id, "log", False, 132_000_000_000),
        Flow("suspense:out", DISTRIBUTOR, USDX.id, "log", False, 131_600_600_000),
        Flow("payable", "suspense:out", USDX.id, "batch", False, 131_200_600_000),
        Flow("payable", "owed_on_chain", USDX.id, "batch", False, 399_400_000),
        Flow("surplus:unallocated", "payable", DAIX.id, "decision", False, 32_000 * WEI),
        Flow("payable", "claimable", DAIX.id, "batch", False, 32_000 * WEI),
        Flow(CLAIMS, VAULT, DAIX.id, "log", False, 32_000 * WEI),
        Flow("surplus:unallocated", VAULT, DAIX.id, "adjustment", False, 123_456_789_123),
        Flow(SIDE_VAULT, "suspense:in", PTSX.id, "log", False, 1_000_000 * 10**8),
        Flow("suspense:in", "surplus:unallocated", PTSX.id, "log", False, 1_000_000 * 10**8),
        Flow("expense:gas", OPERATOR, ETH.id, "attempt", False, 41_300_000_000_000_123),
        Flow("expense:gas", SIDE_OPERATOR, COIN.id, "attempt", False, 900_000_000_000_007),
    )


def _distribution(day: int) -> DistributionFact:
    claimed, end = day % 5 == 4, START + (2 * day + 1) * DAY
    state = {10: "in_flight", 11: "held"}.get(day, "final")
    settled = state == "final"
    return DistributionFact(
        distribution_id=digest(f"distribution {day}"),
        decision_id=digest(f"decision {day}"),
        chain="mainnet",
        rule="points_window_of_the_second_pool" if claimed else "fee_window",
        version=1 if claimed else 3,
        asset=DAIX.id if claimed else USDX.id,
        window_start=end - DAY,
        window_end=end,
        total=(16_000 * WEI if claimed else 11_940_000_000 + 733_000_001 * day),
        recipients=1_204 if claimed else 412,
        paid=0 if claimed or not settled else 411,
        credited=0 if claimed or not settled else 1,
        claimable=1_204 if claimed else 0,
        batches=1 if claimed else 3,
        state=state,
        tx_ids=tuple(digest(f"transaction {day} {n}") for n in range(0 if state == "held" else 2 if claimed else 4)),
        passed=Milestones(
            end - 5, end + 20, end + 840 + day if settled else None, end + 871 + day if settled else None
        ),
    )


def _breaks() -> tuple[BreakFact, ...]:
    def made(number: int, kind: str, state: str, subject: str, opened: int, **more: object) -> BreakFact:
        values: dict[str, object] = {
            "asset": USDX.id,
            "amount": 7_000_000,
            "resolved_at": None,
            "resolution": None,
            "evidence": '{"journals":["log 0xabc:3","log 0xabc:4"],"held":"-7000000"}',
            "detected_s": 41 * number,
            **more,
        }
        return BreakFact(
            break_id=number,
            kind=kind,
            chain="mainnet",
            subject=subject,
            state=state,
            opened_at=END - opened,
            block_number=21_300_000 + number,
            block_hash=digest(f"block {number}"),
            **values,  # type: ignore[arg-type]
        )

    balance = {"amount": -123_456_789_123, "asset": DAIX.id, "evidence": '{"books":"16000","chain":"15999"}'}
    bare = {"asset": None, "amount": None, "evidence": '{"stored":"0xaa at 5","node":"0xbb at 5"}'}
    return (
        made(1, "unexpected_in", "open", "suspense:in <script>alert(1)</script>", 1_800),
        made(2, "unexplained_balance", "assigned", VAULT, 5 * DAY, assignee="Dana Reyes", **balance),
        made(
            3, "amount_mismatch", "explained", "log 0xdeadbeef:12", 12 * DAY, resolution="explained by amir: late fee"
        ),
        made(4, "provider_disagreement", "open", "block 21300004", 40 * DAY, **bare),
        made(
            5,
            "duplicate",
            "resolved",
            f"batch {digest('twice').hex()}:0",
            9 * DAY,
            resolved_at=END - 7 * DAY,
            resolution="resolved by amir: paid back",
        ),
        made(
            6, "timing", "resolved", "batch 1", 3 * DAY, resolved_at=END - 3 * DAY + 95, resolution="cleared by check 9"
        ),
    )


def _history() -> tuple[BreakEvent, ...]:
    opened = tuple(
        BreakEvent(fact.break_id, fact.opened_at, f"reconciliation {40_000 + fact.break_id}", None, "open", None)
        for fact in _breaks()
    )
    return (
        *opened,
        BreakEvent(2, END - 4 * DAY, "amir", "open", "assigned", "Dana Reyes"),
        BreakEvent(3, END - 11 * DAY, "amir", "open", "explained", "a fee that was announced in the block before"),
        BreakEvent(5, END - 8 * DAY, "amir", "open", "assigned", "amir"),
        BreakEvent(5, END - 7 * DAY, "amir", "assigned", "resolved", "paid back by the exchange, see ticket"),
        BreakEvent(6, END - 3 * DAY + 95, "check 9", "open", "resolved", None),
    )


def _corrections() -> tuple[CorrectionFact, ...]:
    return (
        CorrectionFact(
            1,
            "mainnet",
            "the token rebased",
            2,
            "dana",
            END - 2 * DAY,
            None,
            "surplus:unallocated",
            VAULT,
            DAIX.id,
            123_456_789_123,
            "approved",
            "amir",
            END - 2 * DAY + 3_600,
            None,
            21_460_000,
        ),
        CorrectionFact(
            2,
            "mainnet",
            "booked twice",
            None,
            "amir",
            END - DAY,
            f"log:mainnet {digest('log').hex()}:3",
            None,
            None,
            None,
            None,
            "refused",
            "dana",
            END - DAY + 60,
            "the second one is another payer",
            None,
        ),
    )


def _trend(place: int) -> TrendPoint:
    at = START + place * DAY * 5 // 4
    counts = {"event": 2, "balance": 7, "nonce": 1, "completeness": 9, "suspense": 4, "payout": 3}
    return TrendPoint(
        first_at=at,
        last_at=at + DAY,
        runs=1_440,
        levels=tuple(
            LevelTally(
                level,
                Tally(
                    1_440 * count - (40 if level == "balance" and place in (9, 10) else 0),
                    40 if level == "balance" and place in (9, 10) else 0,
                    12 if level == "nonce" and place % 4 == 1 else 0,
                    3 if level == "balance" else 0,
                ),
            )
            for level, count in counts.items()
            if level != "payout" or place > 3
        ),
        value_ppm=None if place == 0 else 999_400 if place in (9, 10) else 1_000_000,
    )
