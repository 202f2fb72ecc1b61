"""What becomes of errors that no command caught."""

import importlib

import pytest

main_module = importlib.import_module("bridge.cli.main")  # the package exports the function of that name


def test_main__fault_of_ours__has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(main_module, "app", broken)
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    assert ended.value.code == 70
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err
