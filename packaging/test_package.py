"""The wheel and the sdist in fresh environments, and the chart: ``make package`` runs this."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

ROOT = Path(__file__).parent.parent
CHART = str(ROOT / "packaging" / "helm" / "deploylog")
[WHEEL] = (ROOT / "dist").glob("*.whl")
[SDIST] = (ROOT / "dist").glob("*.tar.gz")

#: MiB that the packages may take: the commands that call a service, and the service.
CLIENT_MIB, SERVER_MIB = 45, 110


class Environment:
    """A fresh virtual environment."""

    def __init__(self, folder: Path, requirement: str) -> None:
        self.folder = folder
        self._home = folder / "home"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self._home.mkdir()
        pip = [folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", requirement], check=True, capture_output=True)
        subprocess.run([*pip, "uninstall", "--yes", "setuptools", "pip"], capture_output=True)

    @property
    def mib(self) -> float:
        files = (path for path in self.folder.glob("lib/**/*") if path.is_file())
        return sum(path.stat().st_size for path in files) / 2**20

    def start(self, *args: str, **environ: str) -> subprocess.Popen[str]:
        variables = {"PATH": os.environ["PATH"], "HOME": str(self._home), **environ}
        return subprocess.Popen(
            [self.folder / "bin" / "deploylog", *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=variables, cwd=self.folder,
        )  # fmt: skip

    def __call__(self, *args: str, **environ: str) -> tuple[int, str, str]:
        """Run a command to its end: the exit code, and what it printed."""
        process = self.start(*args, **environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Yield the address of a service."""
        process = self.start("serve", "--port", "0")
        assert process.stderr is not None
        try:
            lines = iter(process.stderr.readline, "")
            yield next(found[0] for line in lines if (found := re.findall(r"http://[\d.:]+", line)))
        finally:
            process.terminate()
            process.communicate()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("client"), str(WHEEL))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("server"), f"{WHEEL}[server]")


def test_a_wheel_records_and_shows_a_deployment(client: Environment, server: Environment):
    with server.serving() as url:
        ran, shown, _ = client(
            "run", "--project", "acme", "--stack", "web", "--", "sh", "-c", "echo hi; exit 3",
            DEPLOYLOG_SERVER=url,
        )  # fmt: skip
        listed = client("deployments", "--json", DEPLOYLOG_SERVER=url)
        page = client("events", "--count", DEPLOYLOG_SERVER=url)

    assert (ran, shown) == (3, "hi\n")
    assert '"status":"failed"' in listed[1]
    assert int(page[1]) >= 3


def test_without_the_server_a_command_says_what_to_install(client: Environment):
    code, _, err = client("serve")

    assert code == 2
    assert "install deploylog[server]" in err


def test_without_the_server_a_misspelt_variable_is_refused_and_one_of_the_server_passes(
    client: Environment,
):
    misspelt = client("version", DEPLOYLOG_SERVR="http://127.0.0.1:1")
    of_server = client("version", DEPLOYLOG_STORE="sqlite:///x.db")

    assert "did you mean DEPLOYLOG_SERVER?" in misspelt[2]
    assert of_server[0] == 0


def test_the_packages_are_small(client: Environment, server: Environment):
    print(f"{client.mib:.0f} MiB for commands, {server.mib:.0f} MiB with the service")

    assert client.mib < CLIENT_MIB
    assert server.mib < SERVER_MIB


def test_an_sdist_installs_the_same_program(tmp_path: Path):
    installed = Environment(tmp_path, str(SDIST))

    assert installed("--version")[0] == 0


def render(**values: Any) -> dict[str, Any]:
    """The objects of the chart by kind."""
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="log", namespace="prod")
    documents = [yaml.safe_load(text) for name, text in rendered.items() if name.endswith(".yaml")]
    return {document["kind"]: document for document in documents if document}


def test_the_chart_has_no_errors():
    found = helm_python.lint(CHART)

    assert found["errors"] == []
    assert [message for message in found["messages"] if message["severity"] > 1] == []


def test_the_chart_has_by_default_one_pod_with_a_volume_and_probes():
    objects = render()

    assert objects.keys() == {"StatefulSet", "Service"}
    spec = objects["StatefulSet"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 1
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert spec["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "10Gi"


def test_the_chart_passes_settings_on_as_variables():
    objects = render(settings={"event_retention_days": 30, "access_log": True})

    [container] = objects["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["DEPLOYLOG_EVENT_RETENTION_DAYS"] == "30"
    assert variables["DEPLOYLOG_ACCESS_LOG"] == "true"


def test_the_chart_refuses_several_pods_on_one_file():
    with pytest.raises(helm_python.errors.HelmRenderError, match="store in PostgreSQL"):
        render(replicas=2)


def test_the_chart_has_an_ingress_and_a_monitor_where_they_are_wanted():
    objects = render(
        replicas=2, store="postgresql://deploylog@db/deploylog", encryptionKeySecret="key",
        ingress={"enabled": True, "tlsSecret": "tls"}, monitoring={"enabled": True},
    )  # fmt: skip

    assert objects.keys() == {"StatefulSet", "Service", "Ingress", "ServiceMonitor"}
    assert objects["Ingress"]["spec"]["tls"][0]["secretName"] == "tls"
