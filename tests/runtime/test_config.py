"""bridge.toml: each mistake gets one message with the file, the line, the field and the mend."""

from pathlib import Path

import pytest

from bridge.domain.errors import ConfigError
from bridge.runtime.config import load_config

GOOD = """\
[database]
url = "postgresql://localhost/bridge"

[chains.anvil]
kind = "evm"
chain_id = 31337
rpc = ["http://127.0.0.1:8545"]
start_block = 0
finality = { tag = "finalized" }

[chains.anvil.contracts]
vault = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
distributor = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
timelock = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0513"

[chains.anvil.tokens.USDX]
address = "0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0"
decimals = 6

[chains.anvil.operator]
keystore = "operator.json"
password_file = "operator.password"

[chains.anvil.spending]
max_per_day = { USDX = "100_000_000_000_000_000_000_000" }

[chains.anvil.governance]
admins = ["0x00000000000000000000000000000000000000a1"]
guardians = ["0x00000000000000000000000000000000000000a2"]
admin_delay_s = 172_800
delay_s = 3600
epoch_s = 86_400
limits.USDX = { floor = 1, cap_per_epoch = "7_000_000_000_000_000_000_000_000" }

[chains.anvil.governance.code]
timelock = "keccak256:1111111111111111111111111111111111111111111111111111111111111111"
vault = "keccak256:2222222222222222222222222222222222222222222222222222222222222222"
distributor = "keccak256:3333333333333333333333333333333333333333333333333333333333333333"

[[rules]]
file = "rule.yaml"
chain = "anvil"
"""
CLAIMS = """\
[http]
listen = "127.0.0.1:8080"

[chains.anvil.claims]
above = { USDX = 1000 }
uri = "https://claims.example/"
"""
WITH_CLAIMS = (
    GOOD.replace('timelock = "0x', 'claims = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0514"\ntimelock = "0x').replace(
        'timelock = "keccak', f'claims = "keccak256:{"4" * 64}"\ntimelock = "keccak'
    )
    + CLAIMS
)


def write(folder: Path, text: str) -> Path:
    (folder / "rule.yaml").touch()
    path = folder / "bridge.toml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text))
    return str(caught.value)


def test_load_config__good_file__values_are_exact(tmp_path: Path):
    config = load_config(write(tmp_path, GOOD))
    chain = config.evm("anvil")
    assert chain.reference == "eip155:31337"
    assert chain.contracts["vault"].hex() == "5fbdb2315678afecb367f032d93f642f64180aa3"
    assert chain.spending.max_per_day == {"USDX": 10**23}
    assert config.relative("rule.yaml") == tmp_path / "rule.yaml"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "start_block = 0",
            "start_blok = 0",
            [":8: chains.anvil.start_blok: unknown key", "did you mean `start_block`?"],
        ),
        ('tag = "finalized"', 'tag = "latest"', [":9: chains.anvil.finality.tag", "'finalized' or 'safe'"]),
        ('{ tag = "finalized" }', "{ depth = 0 }", [":9: chains.anvil.finality.depth", "greater than or equal to 1"]),
        ('vault = "0x5FbDB2315678afecb367f032d93F642f64180aa3"', 'vault = "0x12"', [":12:", "40 hex digits"]),
        ("decimals = 6", "decimals = 6.0", [":18: chains.anvil.tokens.USDX.decimals", "valid integer"]),
        ('"100_000_000_000_000_000_000_000"', "1.5", ["max_per_day", "whole number of atoms"]),
        ('USDX = "1', 'USDY = "1', ["names `USDY`, which is not in tokens"]),
        ("limits.USDX = ", "limits.USDY = ", ["names `USDY`, which is not in tokens"]),
        ("keccak256:2", "sha256:2", ["governance.code.vault", "keccak256: and 64 hex digits"]),
        ('guardians = ["0x00000000000000000000000000000000000000a2"]', "guardians = []", ["at least 1 item"]),
        ('timelock = "0x', '# timelock = "0x', [": chains.anvil.contracts: `timelock` is missing", "bridge deploy"]),
        ('timelock = "keccak', '# timelock = "keccak', ["governance.code: `timelock` is missing", "bridge deploy"]),
        ('rpc = ["http', 'rpc = ["ws', ["is not an http:// or https:// URL"]),
        ('chain = "anvil"', 'chain = "anvill"', ["rules[0].chain", "`anvill` is not one of the chains: anvil"]),
        ('file = "rule.yaml"', 'file = "nowhere.yaml"', ["rules[0].file", "there is no file"]),
        ("[chains.anvil]", "[chains.anvil", ["is not valid TOML"]),
        ('password_file = "operator.password"', "", ["give either password_file or password_env"]),
        ('url = "postgresql://localhost/bridge"', "", [":1: database", "give either url or url_env"]),
        (
            "[database]",
            "jobs.sweep_interval_s = 0\n[database]",
            ["jobs.sweep_interval_s", "greater than or equal to 1"],
        ),
        ("[database]", "jobs.seals_interval_s = 90_000\n[database]", ["jobs.seals_interval_s", "equal to 86400"]),
        ("[database]", "jobs.sweep_every_s = 5\n[database]", ["unknown key `sweep_every_s`", "`sweep_interval_s`"]),
        ("[database]", "reconcile_interval_s = 0\n[database]", [":1: reconcile_interval_s", "equal to 1"]),
    ],
)
def test_load_config__mistake__names_place_and_mend(tmp_path: Path, old: str, new: str, said: list[str]):
    assert old in GOOD
    message = refusal(tmp_path, GOOD.replace(old, new, 1))
    assert str(tmp_path / "bridge.toml") in message
    for part in said:
        assert part in message


def test_load_config__claims__values_are_exact(tmp_path: Path):
    config = load_config(write(tmp_path, WITH_CLAIMS))
    chain = config.evm("anvil")
    assert chain.claims is not None
    assert (chain.claims.above, chain.claims.activation_delay_s) == ({"USDX": 1000}, 3600)
    assert chain.claims_contract is not None
    assert chain.claims_contract.hex().endswith("0514")
    assert config.http is not None
    assert config.http.address == ("127.0.0.1", 8080)
    assert load_config(write(tmp_path, GOOD)).evm("anvil").claims_contract is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("above = { USDX", "above = { USDY", ["claims.above names `USDY`, which is not in tokens"]),
        ("USDX = 1000", "USDX = 0", ["chains.anvil.claims.above.USDX", "greater than or equal to 1"]),
        ("above =", "over =", ["unknown key `over`", "`above` is missing"]),
        ("https://", "ftp://", ["uri `ftp://claims.example/` is no http, ipfs or arweave URL"]),
        ('claims = "0x', '# claims = "0x', ["chains.anvil.contracts: `claims` is missing", "bridge deploy"]),
        ('claims = "keccak', '# claims = "keccak', ["governance.code: `claims` is missing", "bridge deploy"]),
        ('"127.0.0.1:8080"', '"8080"', ["http", "`8080` is not HOST:PORT"]),
        ('"127.0.0.1:8080"', '"127.0.0.1:99999"', ["is not HOST:PORT"]),
        ("listen", "port", ["unknown key `port`"]),
    ],
)
def test_load_config__mistake_about_claims__named(tmp_path: Path, old: str, new: str, said: list[str]):
    assert old in WITH_CLAIMS
    message = refusal(tmp_path, WITH_CLAIMS.replace(old, new, 1))
    for part in said:
        assert part in message


def test_load_config__limit_of_claims_without_claims__refused(tmp_path: Path):
    message = refusal(tmp_path, GOOD.replace("{ floor = 1,", "{ floor = 1, claims_auto_per_epoch = 1,"))
    assert "claims_auto_per_epoch, but there is no claims section" in message


def test_load_config__two_mistakes__both_are_said(tmp_path: Path):
    message = refusal(
        tmp_path, GOOD.replace("chain_id = 31337", "chain_id = 0").replace("decimals = 6", "decimals = -1")
    )
    assert "chain_id" in message
    assert "decimals" in message


@pytest.mark.parametrize(
    "line",
    [
        'keystore = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"',
        'keystore = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"',
        'private_key = "anything"',
        'keystore = "test test test test test test test test test test test junk"',
    ],
)
def test_load_config__private_key_in_plain_text__refused_and_not_repeated(tmp_path: Path, line: str):
    message = refusal(tmp_path, GOOD.replace('keystore = "operator.json"', line))
    assert ":21: chains.anvil.operator" in message
    assert "private key in plain text" in message
    assert "keystore file" in message
    assert line.split('"')[1] not in message


def test_load_config__missing_file__says_how_to_get_one(tmp_path: Path):
    with pytest.raises(ConfigError, match="bridge sandbox DIR"):
        load_config(tmp_path / "none.toml")


def test_password__variable_not_set__named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = GOOD.replace('password_file = "operator.password"', 'password_env = "BRIDGE_TEST_PASSWORD"')
    config = load_config(write(tmp_path, text))
    monkeypatch.delenv("BRIDGE_TEST_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="BRIDGE_TEST_PASSWORD is not set"):
        config.password(config.evm("anvil").operator, "here")
    monkeypatch.setenv("BRIDGE_TEST_PASSWORD", "secret")
    assert config.password(config.evm("anvil").operator, "here") == "secret"


def test_low_balance__not_given__what_a_full_batch_costs_at_the_ceiling(tmp_path: Path):
    chain = load_config(write(tmp_path, GOOD)).evm("anvil")
    assert chain.low_balance == 200 * 30_000 * 200_000_000_000
    given = GOOD.replace('password_file = "operator.password"', 'password_file = "operator.password"\nlow_balance = 7')
    assert load_config(write(tmp_path, given)).evm("anvil").low_balance == 7


PRICES = """
[prices.exchange]
url = "https://exchange.example/eth?at={timestamp}"
value = ["data", 0, "price"]
decimals = 8
"""


def test_prices__as_written__read(tmp_path: Path):
    section = load_config(write(tmp_path, GOOD + PRICES)).prices["exchange"]
    assert section.value == ["data", 0, "price"]
    assert section.url_at(1_700_000_000) == "https://exchange.example/eth?at=1700000000"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("https", "ftp", "not an http"),
        ("{timestamp}", "{time}", "no other braces"),
        ("{timestamp}", "now", "could be of any day"),
        ("{timestamp}", "{timestamp}&k={key}", "given together"),
        ("decimals = 8", 'decimals = 8\nkey_env = "K"', "given together"),
        ("decimals = 8", 'decimals = 8\nkey_header = "X-Key"', "given together"),
        ("0,", "-1,", "counted from 0"),
        ("0,", "1.5,", "value"),
        ('["data", 0, "price"]', "[]", "value"),
        ("decimals = 8", "decimals = 37", "decimals"),
        ("decimals = 8", "decimals = 8\ntries = 0", "tries"),
        ("decimals = 8", "decimal = 8", "did you mean `decimals`"),
    ],
)
def test_prices__one_mistake__named_with_its_line(tmp_path: Path, old: str, new: str, problem: str):
    message = refusal(tmp_path, GOOD + PRICES.replace(old, new))
    assert problem in message
    assert f"{tmp_path / 'bridge.toml'}:" in message


def test_price_key__variable_not_set__says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = PRICES.replace("decimals = 8", 'decimals = 8\nkey_env = "EXCHANGE_KEY"\nkey_header = "X-Key"')
    config = load_config(write(tmp_path, GOOD + text))
    monkeypatch.delenv("EXCHANGE_KEY", raising=False)
    with pytest.raises(ConfigError, match="EXCHANGE_KEY is not set"):
        config.price_key("exchange")
    monkeypatch.setenv("EXCHANGE_KEY", "sesame")
    assert config.price_key("exchange") == "sesame"
    assert load_config(write(tmp_path, GOOD + PRICES)).price_key("exchange") is None


# ── Chains of kind solana ───────────────────────────────────────────────────────────────────────────────────────────
GENESIS = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
SOLANA = f"""\
[database]
url = "postgresql://localhost/bridge"

[chains.sol]
kind = "solana"
genesis_hash = "{GENESIS}"
rpc = ["http://127.0.0.1:8899"]
start_block = 7

[chains.sol.contracts]
vault = "7Np41oeYqPefeNQEHSv1UDhYrehxin3NStELsSKCT4K2"

[chains.sol.tokens.USDC]
address = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
decimals = 6

[chains.sol.operator]
keystore = "operator.json"
password_file = "operator.password"

[chains.sol.spending]
max_per_day = {{ USDC = 1_000_000 }}
"""


def test_load_config__solana__values_are_exact(tmp_path: Path):
    config = load_config(write(tmp_path, SOLANA))
    chain = config.chains["sol"]
    assert chain.reference == "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
    assert chain.native_asset == f"{chain.reference}/slip44:501"
    mint = chain.tokens["USDC"].address
    assert chain.asset(mint) == f"{chain.reference}/token:EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
    assert (len(mint), chain.start_block, chain.spending.max_per_day) == (32, 7, {"USDC": 1_000_000})
    with pytest.raises(ConfigError, match="no contracts to deploy"):
        config.evm("sol")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "solana"', 'kind = "sol"', "chains.sol"),
        (f'"{GENESIS}"', '"0x12"', "6: chains.sol.genesis_hash: an address is base58 of 32 bytes"),
        ('vault = "7Np4', 'safe = "7Np4', "no `vault`"),
        ("start_block = 7", "start_block = 7\nchain_id = 1", "unknown key `chain_id`"),
        ("start_block = 7", "start_block = 7\npol_interval_ms = 9", "did you mean `poll_interval_ms`?"),
        ("{ USDC = 1_000_000 }", "{ USDT = 1 }", "spending.max_per_day names `USDT`, which is not in tokens"),
        ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "1" * 32, "only the vault's own key can pay out"),
        ('"operator.json"', f'"{"4" * 87}"', "looks like a private key"),
        ('rpc = ["', f'rpc = {[7] * 64}\nother = ["', "the bytes of a private key"),
    ],
)
def test_load_config__solana_mistake__says_where_and_what(tmp_path: Path, old: str, new: str, said: str):
    assert old in SOLANA
    assert said in refusal(tmp_path, SOLANA.replace(old, new))
