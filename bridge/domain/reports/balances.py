"""What accounts held, got and gave, worked out from flows: roll-forward, waterfalls, what is under way, suspense."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from bridge.domain.ledger import CARRIED, OPENING, SUSPENSE_IN, SUSPENSE_OUT, UNALLOCATED, Asset
from bridge.domain.reports.facts import Aside, BalanceCheck, Facts, Flow, is_adjustment
from bridge.domain.reports.report import Amount, PendingBridge, RollForward, Suspense, Waterfall
from bridge.domain.units import AssetId

CUSTODY = ("vault:", "distributor:", "claims:")
WATCHED = (*CUSTODY, "operator:")
PAYABLE, OWED, CLAIMABLE = "payable", "owed_on_chain", "claimable"


def roll_forward(
    flows: Sequence[Flow],
    checks: Sequence[BalanceCheck],
    assets: Mapping[AssetId, Asset],
    earlier: Sequence[Flow] = (),
) -> tuple[RollForward, ...]:
    """One row for each watched account and asset that was ever moved or checked, by account then asset.

    What came of `earlier` flows is the opening. Books that are opened within a period open with what was held then.
    """
    posted = (*earlier, *flows)
    moved = {(code, flow.asset) for flow in posted for code in (flow.debit, flow.credit) if code.startswith(WATCHED)}
    actual = {(check.subject, check.asset): check.actual for check in checks if check.subject.startswith(WATCHED)}
    return tuple(
        _roll(account, label(asset, assets), flows, earlier, actual.get((account, asset)))
        for account, asset in sorted(moved | set(actual))
    )


def unread(facts: Facts) -> tuple[tuple[str, AssetId], ...]:
    """Watched accounts and assets of the roll-forward of which no check says what the chain held at the cut-off."""
    rows = roll_forward(facts.flows, facts.balance_checks, {asset.id: asset for asset in facts.assets}, facts.earlier)
    return tuple((row.account, row.closing.asset.id) for row in rows if row.on_chain is None)


def _roll(
    account: str, asset: Asset, flows: Sequence[Flow], earlier: Sequence[Flow], on_chain: int | None
) -> RollForward:
    columns: defaultdict[str, int] = defaultdict(int)
    # A watched account mirrors the chain: what it holds is debits − credits.
    held = -net_credits(flow for flow in earlier if flow.asset == asset.id)[account]
    columns["opening"] = columns["closing"] = held
    for flow in flows:
        if flow.asset != asset.id or account not in (flow.debit, flow.credit):
            continue
        debit = flow.debit == account  # what it receives
        signed = flow.atoms if debit else -flow.atoms
        if flow.source == "opening":
            columns["opening"] += signed
        elif is_adjustment(flow):
            columns["adjustments"] += signed
        elif (flow.credit if debit else flow.debit).startswith("expense:"):
            columns["fees"] -= signed
        else:
            columns["received" if debit else "sent"] += flow.atoms
        columns["closing"] += signed
    amount = {
        name: Amount(columns[name], asset) for name in ("opening", "received", "sent", "fees", "adjustments", "closing")
    }
    return RollForward(
        account=account,
        **amount,
        on_chain=None if on_chain is None else Amount(on_chain, asset),
        difference=None if on_chain is None else Amount(on_chain - columns["closing"], asset),
    )


def waterfalls(
    flows: Sequence[Flow],
    decided: Mapping[AssetId, int],
    assets: Mapping[AssetId, Asset],
    earlier: Sequence[Flow] = (),
    aside: Mapping[AssetId, Aside] = MappingProxyType({}),
) -> tuple[Waterfall, ...]:
    """One waterfall for each asset in which surplus was found, allocated or held when the books were opened.

    Of what is payable, all that is not `aside` is in flight.

    Sums over flows and balances of accounts are taken apart from each other; the Waterfall asserts that they meet.
    """
    # The operator's coin for gas is opened like any balance, but it is nobody's surplus.
    own, before = (
        [flow for flow in some if not (flow.source == "opening" and flow.debit.startswith("operator:"))]
        for some in (flows, earlier)
    )
    touched = {flow.asset for flow in (*before, *own) if {_place(flow.debit), _place(flow.credit)} != {"outside"}}
    return tuple(
        _waterfall(assets[asset], own, before, decided.get(asset, 0), aside.get(asset, Aside()))
        for asset in sorted(touched)
    )


def _waterfall(asset: Asset, flows: Sequence[Flow], earlier: Sequence[Flow], decided: int, aside: Aside) -> Waterfall:
    own = [flow for flow in flows if flow.asset == asset.id]
    before = [flow for flow in earlier if flow.asset == asset.id]
    start = net_credits(before)
    sums: defaultdict[str, int] = defaultdict(int, opening=start[UNALLOCATED] + start[CARRIED] + start[OPENING])
    for flow in own:
        for name, sign in _steps(flow):
            sums[name] += sign * flow.atoms
    balance = net_credits((*before, *own))
    named = {
        name: Amount(sums[name], asset)
        for name in ("opening", "earned", "adjustments", "allocated", "paid", "credited", "claimable")
    }
    return Waterfall(
        asset=asset,
        **named,
        in_flight=Amount(balance[PAYABLE] - sum(aside), asset),
        held=Amount(aside.held, asset),
        given_up=Amount(aside.given_up, asset),
        carried=Amount(balance[CARRIED], asset),
        # Decisions take what the opening held from surplus:unallocated too: only both together are what is left.
        unallocated=Amount(balance[UNALLOCATED] + balance[OPENING], asset),
        decided=Amount(decided, asset),
        promised=Amount(start[PAYABLE], asset),
    )


def _steps(flow: Flow) -> list[tuple[str, int]]:
    """Which steps of the waterfall a flow belongs to, with its sign.

    outside ─► surplus          opening, earned, or an adjustment
    surplus ─► payable          allocated              payable ─► surplus      allocated, back
    payable ─► suspense:out     paid                   suspense:out ─► payable paid, back
    payable ─► owed_on_chain    credited               owed_on_chain ─► payable credited, back
    payable ─► claimable        claimable              claimable ─► payable     claimable, back
    outside ─► payable          an adjustment that is allocated at once; and back
    inside surplus, or outside only: no step
    """
    gains, loses = _place(flow.credit), _place(flow.debit)  # credits add to liabilities, debits take from them
    if gains == loses:
        return []
    if {gains, loses} == {"surplus", "payable"}:
        return [("allocated", 1 if gains == "payable" else -1)]
    if "payable" in (gains, loses):
        sign = 1 if loses == "payable" else -1
        step = {OWED: "credited", CLAIMABLE: "claimable", SUSPENSE_OUT: "paid"}.get(
            flow.credit if sign == 1 else flow.debit
        )
        return [(step, sign)] if step else [("allocated", -sign), ("adjustments", -sign)]
    if loses == "surplus":
        return [("adjustments", -1)]
    if flow.source == "opening":
        return [("opening", 1)]
    return [("earned" if flow.credit == UNALLOCATED and not is_adjustment(flow) else "adjustments", 1)]


def _place(code: str) -> str:
    if code in (UNALLOCATED, CARRIED, OPENING):
        return "surplus"
    return "payable" if code == PAYABLE else "outside"


def net_credits(flows: Iterable[Flow]) -> defaultdict[str, int]:
    """credits − debits by account code."""
    balance: defaultdict[str, int] = defaultdict(int)
    for flow in flows:
        balance[flow.credit] += flow.atoms
        balance[flow.debit] -= flow.atoms
    return balance


def pending(
    flows: Sequence[Flow], rows: Sequence[RollForward], aside: Mapping[AssetId, Aside]
) -> tuple[PendingBridge, ...]:
    custody = [row for row in rows if row.account.startswith(CUSTODY)]
    bridges = []
    for asset in sorted({row.closing.asset for row in custody}, key=lambda asset: asset.id):
        own = [row for row in custody if row.closing.asset == asset]
        balance = net_credits(flow for flow in flows if flow.asset == asset.id)
        waits = aside.get(asset.id, Aside())
        ledger = sum(row.closing.atoms for row in own)
        read = [row.on_chain.atoms for row in own if row.on_chain is not None]
        chain = sum(read) if len(read) == len(own) else None
        bridges.append(
            PendingBridge(
                asset=asset,
                free=Amount(ledger - balance[PAYABLE] - balance[OWED] - balance[CLAIMABLE], asset),
                in_flight=Amount(balance[PAYABLE] - sum(waits), asset),
                held=Amount(waits.held, asset),
                given_up=Amount(waits.given_up, asset),
                owed=Amount(balance[OWED] + balance[CLAIMABLE], asset),
                ledger=Amount(ledger, asset),
                chain=None if chain is None else Amount(chain, asset),
                difference=None if chain is None else Amount(chain - ledger, asset),
            )
        )
    return tuple(bridges)


def suspense(flows: Sequence[Flow], assets: Mapping[AssetId, Asset]) -> tuple[Suspense, ...]:
    found = []
    for asset_id in sorted({flow.asset for flow in flows}):
        own = [flow for flow in flows if flow.asset == asset_id]
        touched = {code for flow in own for code in (flow.debit, flow.credit)}
        balance = net_credits(own)
        found += [
            Suspense(code, Amount(balance[code], assets[asset_id]))
            for code in (SUSPENSE_IN, SUSPENSE_OUT)
            if code in touched
        ]
    return tuple(found)


def label(asset: AssetId, assets: Mapping[AssetId, Asset]) -> Asset:
    """The asset as the ledger knows it; before its first journal, its id stands for the symbol and atoms are whole."""
    return assets.get(asset) or Asset(asset, asset.split("/", 1)[0], None, asset.rsplit("/", 1)[-1], 0)
