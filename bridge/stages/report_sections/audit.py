"""Sections for an auditor: what was checked, read and left out, by whom, and what words mean."""

from __future__ import annotations

from bridge.domain.reports.report import Completeness, Report
from bridge.domain.reports.wording import count_of
from bridge.stages.report_sections import Code, Hash, Points, Section, State, Words, utc
from bridge.stages.report_sections.parts import DASH, row_of, table_of


def checks(report: Report) -> Section:
    rows = [
        row_of(
            Words(item.level),
            Words(item.chain),
            State(item.outcome),
            Words(item.cause or "—"),
            Words(f"{item.count:,}"),
        )
        for item in report.checks
    ]
    run = report.reconciliation
    told = (
        "No reconciliation yet." if run is None else f"Reconciliation {run.reconciliation_id}, {utc(run.finished_at)}."
    )
    return Section(
        "checks",
        "Checks",
        f"What the reconciliation looked at, and everything that it skipped, with the cause. {told}",
        (
            table_of(
                "Checks by kind and outcome",
                ("Kind", "Chain", "Outcome", "Cause", "Checks#"),
                rows,
                empty="Nothing was checked yet.",
                shares=(1, 1, 1, 4, 1),
            ),
        ),
    )


def completeness(report: Report) -> Section:
    ranges = [
        row_of(
            Words(item.chain),
            Words(f"{span.first_block:,} – {span.last_block:,}"),
            Words(f"{span.ranges:,}"),
            Words(f"{span.logs:,}"),
            Code(span.read_by),
            Code(span.verified_by + ("" if span.independent else " (the same)")),
        )
        for item in report.completeness
        for span in item.spans
    ]
    seals = [
        row_of(
            Words(item.chain),
            Words(f"{item.journals:,}"),
            Words(f"{item.sealed:,}"),
            DASH if item.last_sequence is None else Words(f"{item.last_sequence:,}"),
            DASH if item.head is None else Code(f"0x{item.head.hex()}"),
        )
        for item in report.seals
    ]
    return Section(
        "completeness",
        "Completeness",
        "That nothing is missing: blocks were read in ranges without a gap, each one twice, and journals are linked "
        "into one hash chain.",
        (
            Points(tuple(_complete(item) for item in report.completeness)),
            table_of(
                "Finalized ranges",
                ("Chain", "Blocks", "Ranges#", "Logs#", "Read by", "Verified by"),
                ranges,
                empty="Nothing was read yet.",
                shares=(1, 2, 1, 1, 3, 3),
            ),
            table_of(
                "Journals of this report, and the hash chain that they are sealed into",
                ("Chain", "Journals#", "Sealed#", "Newest seal#", "Head of the hash chain there"),
                seals,
                empty="Nothing is booked yet.",
                shares=(1, 1, 1, 1, 5),
            ),
        ),
    )


def _complete(item: Completeness) -> str:
    gaps = "no gap" if not item.gaps else count_of(len(item.gaps), "gap")
    if not item.spans:
        return f"{item.chain}: nothing was read yet."
    second = (
        "every range was verified by another provider than the one that read it"
        if item.independent
        else "the same provider read and verified: the second read is not independent"
    )
    return f"{item.chain}: {count_of(item.logs, 'finalized log')}, {gaps}; {second}."


def providers(report: Report) -> Section:
    rows = [
        row_of(Words(item.chain), Code(item.name), Words(f"{item.ranges_read:,}"), Words(f"{item.ranges_verified:,}"))
        for item in report.providers
    ]
    named = ", ".join(str(number) for number in report.disagreements)
    told = f"Their disagreements are breaks {named} of the register." if named else "No disagreement was recorded."
    return Section(
        "providers",
        "RPC providers",
        f"Who told us what is on the chain. {told}",
        (
            table_of(
                "Endpoints and the finalized ranges that they read or verified",
                ("Chain", "Endpoint", "Read#", "Verified#"),
                rows,
                empty="No endpoint was asked yet.",
                shares=(1, 4, 1, 1),
            ),
        ),
    )


def scope(report: Report) -> Section:
    chains = [
        row_of(
            Words(chain.chain),
            Words(chain.reference),
            Hash(chain.genesis_hash),
            Words(f"{chain.start_block:,}"),
            DASH if chain.opening is None else Words(f"{chain.opening.number:,}"),
            DASH if chain.cut_off is None else Words(f"{chain.cut_off.number:,}"),
            DASH if chain.cut_off is None else Hash(chain.cut_off.hash),
            DASH if chain.posted_through is None else Words(f"{chain.posted_through:,}"),
            Words(f"{chain.reorgs:,} ({count_of(chain.blocks_orphaned, 'block')})"),
        )
        for chain in report.chains
    ]
    assets = [row_of(Words(a.symbol), Code(a.id), Words(str(a.decimals))) for a in report.assets]
    accounts = [
        row_of(Code(account), Words("contract of ours" if account in report.contracts else "sending account"))
        for account in report.accounts
    ]
    rules = [
        row_of(
            Words(f"{rule.rule} v{rule.version}"),
            Code(f"0x{rule.content_hash.hex()}"),
            *(Words(f"{number:,}") for number in (rule.pay, rule.carry, rule.nothing, rule.hold)),
        )
        for rule in report.rules
    ]
    names = "Chain", "Reference", "Genesis", "Books from#", "Opening#", "Cut-off#", "Its hash", "Booked through#"
    return Section(
        "scope",
        "Scope",
        "Chains, assets, wallets and rules that this report is about. Its opening is the closing of the period before.",
        (
            table_of("Chains", (*names, "Reorganisations#"), chains, empty="No chain yet."),
            table_of("Assets", ("Symbol", "Asset", "Decimals#"), assets, empty="No asset yet.", shares=(1, 4, 1)),
            table_of("Watched wallets", ("Account", "Kind"), accounts, kind="pairs", empty="None yet.", shares=(3, 1)),
            table_of(
                "Rules",
                ("Rule", "sha256 of its text", "Paid#", "Carried#", "Nothing#", "Held#"),
                rules,
                empty="No rule has decided yet.",
                shares=(2, 5, 1, 1, 1, 1),
            ),
        ),
    )


def origin(report: Report) -> Section:
    origin = report.origin
    rows = [
        row_of(Words("Program"), Code(f"bridge {origin.version}" if origin.version else "—")),
        row_of(Words("sha256 of its code"), Code(origin.code_sha256 or "—")),
        row_of(Words("sha256 of the configuration file"), Code(origin.config_sha256 or "—")),
    ]
    return Section(
        "origin",
        "Made by",
        "Which program and which configuration made this report; hashes of rules stand under Scope.",
        (table_of("Program and configuration", ("What", "Value"), rows, kind="pairs", shares=(1, 3)),),
    )


def limitations(report: Report) -> Section:
    return Section(
        "limitations", "Limitations", "What must not be concluded from this report.", (Points(report.limitations),)
    )


_TERMS = (
    ("Atom", "The smallest unit of an asset. Every amount is an exact number of them; nothing is rounded."),
    ("Finalized", "A block that the chain will not replace any more. Only such blocks count."),
    ("Cut-off", "The finalized block, named by number and hash, at which books and chain are compared."),
    (
        "Break",
        "A difference between books and chain. It stays in the register, with its history, after it is resolved.",
    ),
    ("Surplus", "What a rule found that the vault holds beyond what it owes."),
    ("In flight", "Decided to be paid, and not yet in a finalized block."),
    ("Held", "Decided to be paid, and stopped until a person releases it or gives it up. It stays put aside."),
    ("Given up", "Decided to be paid, and not paid by the bridge any more: still owed, until a person settles it."),
    ("Credited", "A transfer that the recipient's side refused: the contract keeps the amount for it."),
    ("Claimable", "Published in a tree of claims: each account takes its part itself."),
    ("Carried", "Too small to be paid yet, or more than a limit lets through: it waits for a later window."),
    ("Dust", "What division leaves over. It is never lost: it stays unallocated or is carried."),
    ("Suspense", "Moved on the chain and not explained yet. Zero when everything is."),
    ("Seal", "A journal's place in a hash chain: whoever changes one journal changes every later head."),
)


def terms() -> Section:
    rows = [row_of(Words(term), Words(meaning)) for term, meaning in _TERMS]
    return Section(
        "terms", "Terms", "What words mean here.", (table_of("Terms", ("Term", "Meaning"), rows, shares=(1, 5)),)
    )
