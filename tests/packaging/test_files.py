"""The unit, the compose file, the Containerfile and the chart name settings that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import deploylog
from deploylog.server.settings.table import SETTINGS
from support.paths import ROOT

PACKAGING = ROOT / "packaging"
VARIABLES = {setting.env for setting in SETTINGS}


@pytest.mark.parametrize(
    "file", ["Containerfile", "compose.yaml", "deploylog.service", "helm/deploylog/templates"]
)
def test_every_variable_is_one_of_a_setting(file: str):
    path = PACKAGING / file
    files = path.iterdir() if path.is_dir() else [path]
    text = "".join(each.read_text() for each in files)

    named = set(re.findall(r"DEPLOYLOG_[A-Z_]+\b(?!\{)", text)) - {"DEPLOYLOG_"}

    assert named
    assert named <= VARIABLES


def test_the_values_of_the_chart_name_settings_that_exist():
    values = yaml.safe_load((PACKAGING / "helm" / "deploylog" / "values.yaml").read_text())

    assert values["settings"].keys() <= {setting.name for setting in SETTINGS}


def test_the_chart_has_the_version_of_the_program():
    chart = yaml.safe_load((PACKAGING / "helm" / "deploylog" / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (deploylog.__version__,) * 2


def test_the_compose_file_names_services_volumes_and_secrets_that_it_has():
    compose = yaml.safe_load((PACKAGING / "compose.yaml").read_text())
    service = compose["services"]["deploylog"]

    assert service["depends_on"].keys() <= compose["services"].keys()
    assert set(service["secrets"]) <= compose["secrets"].keys()
    assert compose["services"]["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert (PACKAGING / service["build"]["context"]).resolve() == ROOT.resolve()


@pytest.mark.process
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_one_that_systemd_understands(tmp_path: Path):
    # The program and the user do not exist on this machine.
    text = (PACKAGING / "deploylog.service").read_text()
    unit = tmp_path / "deploylog.service"
    unit.write_text(text.replace("/opt/deploylog/bin/deploylog", "/bin/true"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )

    assert [line for line in done.stderr.splitlines() if "deploylog.service" in line] == []
