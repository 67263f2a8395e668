"""The Helm chart: linted, rendered for several sets of values, and every resource judged by the schema of its type."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.deploy.deploy_programs import ROOT, node_environment, program

from farpoint.asyncapi import asyncapi_document
from farpoint.settings import load_settings, settings_table
from farpoint.stage_app import SESSION_SECONDS
from farpoint.worker import STOP_SECONDS

CHART = ROOT / "deploy/helm/farpoint"
VALUES = {"default": None} | {path.stem.removesuffix("-values"): path for path in sorted((CHART / "ci").glob("*.yaml"))}
VERSIONS = ("1.27.0", "1.31.0", "1.35.0")
CUSTOM = ("keda.sh/", "monitoring.coreos.com/")
Resource = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm on the chart."""
    return subprocess.run([program("helm"), *arguments], capture_output=True, text=True, check=False)


def _given(values: Path | None) -> list[str]:
    return [] if values is None else ["--values", str(values)]


def render(name: str = "default", version: str = VERSIONS[1], **settings: str) -> list[Resource]:
    """Render the chart with a set of values, some of them set otherwise."""
    values = VALUES[name]
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = helm("template", "edge", CHART, "--kube-version", version, *_given(values), *changes)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refused(**settings: str) -> str:
    """Render what the chart must refuse; returns why."""
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = helm("template", "edge", CHART, "--kube-version", VERSIONS[1], *changes)
    assert done.returncode != 0, done.stdout
    return done.stderr


def of(kind: str, resources: list[Resource]) -> dict[str, Resource]:
    """Return the resources of a kind by name."""
    return {one["metadata"]["name"]: one for one in resources if one["kind"] == kind}


def pods(resources: list[Resource]) -> dict[str, Resource]:
    """Return every pod template by the name of its owner."""
    return {
        name: one["spec"]["template"]["spec"]
        for kind in ("Deployment", "Job")
        for name, one in of(kind, resources).items()
    }


def environment(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container's environment: a text, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


@pytest.mark.parametrize("name", VALUES)
def test_helm_lint(name: str) -> None:
    """Helm's own linter, strict, finds nothing."""
    values = VALUES[name]
    done = helm("lint", CHART, "--strict", *_given(values))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", VALUES)
def test_kubernetes_takes_every_resource(name: str, version: str) -> None:
    """The API's own schemas, strict so that unknown fields count, accept what is Kubernetes' own."""
    own = [one for one in render(name, version) if not one["apiVersion"].startswith(CUSTOM)]
    assert len(own) >= 2
    for resource in own:
        kubernetes_validate.validate(resource, version.rpartition(".")[0], strict=True)


@pytest.mark.parametrize("name", VALUES)
def test_operators_take_every_custom_resource(name: str) -> None:
    """The types of prometheus-operator and KEDA accept what is theirs, and know every field of it."""
    custom = [one for one in render(name) if one["apiVersion"].startswith(CUSTOM)]
    found = _judged(custom)
    assert [one["errors"] for one in found] == [[] for _ in custom]
    kinds = {one["kind"] for one in custom}
    assert (
        kinds
        == {
            "default": set(),
            "small": set(),
            "gpu-secured": {"PodMonitor", "PrometheusRule"},
            "autoscaled": {"ScaledObject", "TriggerAuthentication"},
        }[name]
    )


def test_a_wrong_custom_resource_is_noticed() -> None:
    """The judge of custom resources sees a wrong type and a field that does not exist."""
    scaled = next(one for one in render("autoscaled") if one["kind"] == "ScaledObject")
    wrong = [scaled | {"spec": scaled["spec"] | change} for change in ({"maxReplicaCount": "many"}, {"maxReplica": 3})]
    assert all(one["errors"] for one in _judged(wrong))


def _judged(resources: list[Resource]) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("validate-resources.mjs")
    done = subprocess.run(
        [program("node"), script],
        input="".join(json.dumps(one) + "\n" for one in resources),
        capture_output=True,
        text=True,
        env=node_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_is_confined(name: str) -> None:
    """Not root, nothing to gain, a read-only root with a bounded /tmp, no token of the cluster, bounded memory."""
    for pod in pods(render(name)).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert ":" in container["image"]
        assert not container["image"].endswith(":latest")
        (tmp,) = [mount for mount in container["volumeMounts"] if mount["name"] == "tmp"]
        assert not tmp.get("readOnly")
        assert all(mount["readOnly"] for mount in container["volumeMounts"] if mount is not tmp)
        assert next(volume for volume in pod["volumes"] if volume["name"] == "tmp")["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("name", VALUES)
def test_the_environment_is_one_that_farpoint_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is a setting, and the values are accepted by the command that will read them."""
    known = {variable for variable, _, _ in settings_table()}
    for pod in pods(render(name)).values():
        given = environment(pod["containers"][0])
        assert set(given) <= known
        with monkeypatch.context() as patched:
            for variable, value in given.items():
                patched.setenv(variable, value if isinstance(value, str) else _filled_in(value))
            settings = load_settings()
        assert settings.http.host == "0.0.0.0"  # noqa: S104
        assert settings.topics.domain == "vision"


def _filled_in(source: Mapping[str, Any]) -> str:
    return "2" if "resourceFieldRef" in source else "from-a-secret"


def test_large_numbers_stay_whole() -> None:
    """A file's numbers are floats to Helm: a large whole one must not come out in exponents, nor a share be cut off."""
    given = environment(pods(render("gpu-secured"))["edge-farpoint-embed"]["containers"][0])
    assert given["FARPOINT_MEDIA__MAX_RECORD_BYTES"] == "16777216"
    assert given["FARPOINT_EMBEDDER__MAX_BATCH"] == "64"
    assert given["FARPOINT_DETECTOR__FALSE_ALARM_RATE"] == "0.0005"


def test_threads_are_those_that_the_pod_asks_for() -> None:
    """Without a limit on CPU a worker sees the whole node; a limit it sees by itself, and a setting overrules both."""

    def threads(stage: str = "embed", **settings: str) -> Any:
        (container,) = pods(render(**settings))[f"edge-farpoint-{stage}"]["containers"]
        return environment(container).get("FARPOINT_EMBEDDER__THREADS")

    assert threads() == {"resourceFieldRef": {"containerName": "embed", "resource": "requests.cpu"}}
    assert threads(**{"embed.resources.limits.cpu": "4"}) is None
    assert threads(**{"settings.EMBEDDER__THREADS": "3"}) == "3"
    assert threads("detect") is None


def test_secrets_come_from_secrets() -> None:
    """No password or token is in a rendered resource: they are referred to, in the pods and for KEDA and Prometheus."""
    resources = render("gpu-secured")
    for pod in pods(resources).values():
        given = environment(pod["containers"][0])
        assert given["FARPOINT_KAFKA__SASL_PASSWORD"] == {"secretKeyRef": {"name": "farpoint-kafka", "key": "password"}}
        assert given["FARPOINT_HTTP__TOKEN"] == {"secretKeyRef": {"name": "farpoint-http", "key": "token"}}
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert given["FARPOINT_KAFKA__SSL_CAFILE"] == f"{mounts['kafka-ca']}/ca.crt"
    (monitor,) = of("PodMonitor", resources).values()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "farpoint-http", "key": "token"}
    (authentication,) = of("TriggerAuthentication", render("autoscaled")).values()
    assert {one["parameter"] for one in authentication["spec"]["secretTargetRef"]} == {"username", "password"}


def test_a_gpu_is_asked_for_and_not_pretended() -> None:
    """The embed pod has the GPU, the image with CUDA, and `cuda`, which refuses to start without; detect has none."""
    found = pods(render("gpu-secured"))
    embed, detect = (found[f"edge-farpoint-{stage}"]["containers"][0] for stage in ("embed", "detect"))
    assert embed["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert embed["resources"]["limits"]["memory"]
    assert embed["image"].endswith("-gpu")
    assert environment(embed)["FARPOINT_EMBEDDER__DEVICE"] == "cuda"
    assert "nvidia.com/gpu" not in detect["resources"]["limits"]
    assert detect["image"].endswith("-cpu")
    assert environment(pods(render())["edge-farpoint-embed"]["containers"][0])["FARPOINT_EMBEDDER__DEVICE"] == "cpu"
    strategies = {name: one["spec"]["strategy"] for name, one in of("Deployment", render("gpu-secured")).items()}
    assert strategies["edge-farpoint-embed"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert strategies["edge-farpoint-detect"] == {"type": "Recreate"}


def test_probes_ask_what_they_should() -> None:
    """Start and life by /livez, which never asks the broker; traffic and roll-outs by /readyz; time to end in order."""
    for name, deployment in of("Deployment", render()).items():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["args"] == ["worker", "--stages", name.rpartition("-")[2]]
        paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
        assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 180
        assert pod["terminationGracePeriodSeconds"] > 2 * STOP_SECONDS + SESSION_SECONDS / 2


def test_keda_follows_the_lag_of_what_a_stage_reads() -> None:
    """Topic and group of each trigger are those that the AsyncAPI document gives the stage; replicas fit partitions."""
    document = asyncapi_document()
    addresses = {f"#/channels/{name}": channel["address"] for name, channel in document["channels"].items()}
    for stage in ("embed", "detect"):
        spec = of("ScaledObject", render("autoscaled"))[f"edge-farpoint-{stage}"]["spec"]
        assert spec["scaleTargetRef"] == {"name": f"edge-farpoint-{stage}"}
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= 24
        found = {trigger["metadata"]["topic"]: trigger["metadata"]["consumerGroup"] for trigger in spec["triggers"]}
        assert found == {
            addresses[operation["channel"]["$ref"]]: operation["bindings"]["kafka"]["groupId"]["enum"][0]
            for name, operation in document["operations"].items()
            if name.startswith(f"{stage}Receives") and "bindings" in operation
        }
        for trigger in spec["triggers"]:
            assert int(trigger["metadata"]["lagThreshold"]) >= 100
            assert trigger["metadata"]["offsetResetPolicy"] == "earliest"
            assert trigger["metadata"]["excludePersistentLag"] == "true"
            assert trigger["metadata"]["sasl"] == "scram_sha256"
            assert trigger["authenticationRef"] == {"name": "edge-farpoint-kafka"}
            assert "tls" not in trigger["metadata"]
    assert all("replicas" not in one["spec"] for one in of("Deployment", render("autoscaled")).values())


def test_selectors_find_the_pods() -> None:
    """Deployments, budgets, the network policy and the monitor select the labels that the pods have."""
    resources = render("gpu-secured")
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in of("Deployment", resources).items()}
    for name, deployment in of("Deployment", resources).items():
        wanted = deployment["spec"]["selector"]["matchLabels"]
        assert [pod for pod, has in labels.items() if wanted.items() <= has.items()] == [name]
        budget = of("PodDisruptionBudget", resources)[name]["spec"]["selector"]["matchLabels"]
        assert budget == wanted
    for one in (*of("PodMonitor", resources).values(), *of("NetworkPolicy", resources).values()):
        selector = one["spec"].get("selector") or one["spec"]["podSelector"]
        assert all(selector["matchLabels"].items() <= has.items() for has in labels.values())


def test_the_network_policy_is_closed() -> None:
    """In: the port of health and metrics, from whom the values name. Out: names, and Kafka's ports."""
    (policy,) = of("NetworkPolicy", render("gpu-secured")).values()
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    (entry,) = policy["spec"]["ingress"]
    assert entry["from"]
    assert [port["port"] for port in entry["ports"]] == ["http"]
    out = [(port["port"], "to" in rule) for rule in policy["spec"]["egress"] for port in rule["ports"]]
    assert out == [(53, False), (53, False), (9093, True)]
    (nobody,) = of("NetworkPolicy", render("small")).values()
    assert nobody["spec"]["ingress"] == []


def test_the_rules_are_prometheus_own() -> None:
    """The rule resource has every group of deploy/prometheus/rules, its runbooks' address put in; no copy is stale."""
    copies = {path.name: path.read_text(encoding="utf-8") for path in (CHART / "files/rules").glob("*.yml")}
    assert copies
    originals = {
        path.name: path.read_text(encoding="utf-8") for path in (ROOT / "deploy/prometheus/rules").glob("*.yml")
    }
    if (ROOT / "deploy/prometheus").is_dir():
        assert copies == originals, "`make docs` copies them"
    (rule,) = of("PrometheusRule", render("gpu-secured")).values()
    address = "https://wiki.example/farpoint/runbooks"
    texts = [copies[name].replace("{{ $externalLabels.runbooks }}", address) for name in sorted(copies)]
    assert rule["spec"]["groups"] == [group for text in texts for group in yaml.safe_load(text)["groups"]]
    links = [
        one["annotations"]["runbook_url"]
        for group in rule["spec"]["groups"]
        for one in group["rules"]
        if "alert" in one
    ]
    assert len(links) > 10
    assert all(link.startswith(f"{address}/") for link in links)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"embed.replicaCount": "2"}, "replicaCount"),
        ({"embed.replicas": "many"}, "replicas"),
        ({"kafka.securityProtocol": "TLS"}, "securityProtocol"),
        ({"kafka.bootstrapServers": "kafka"}, "bootstrapServers"),
        ({"topics.domain": "a.b"}, "domain"),
        ({"settings.KAFKA__SASL_PASSWORD": "x"}, "KAFKA__SASL_PASSWORD"),
        ({"kafka.securityProtocol": "SASL_SSL"}, "kafka.credentialsSecret is needed"),
        (
            {"embed.autoscaling.enabled": "true", "topics.partitions": "4"},
            "maxReplicas is 8, but topics.partitions 4",
        ),
        ({"detect.autoscaling.enabled": "true"}, "detect.autoscaling needs detector.scope=source"),
        ({"http.port": "80"}, "port"),
    ],
)
def test_bad_values_are_refused(settings: dict[str, str], said: str) -> None:
    """A misspelt or impossible value stops the install and is named."""
    assert said in refused(**settings)


def test_the_schema_knows_every_value() -> None:
    """values.yaml and values.schema.json have the same keys, all the way down."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def compare(value: Any, part: dict[str, Any], path: str) -> None:
        if not isinstance(value, dict) or "properties" not in part:
            return
        assert set(value) == set(part["properties"]) - {"global", "claims"}, path
        for name, inner in value.items():
            compare(inner, part["properties"][name], f"{path}.{name}")

    compare(values, schema, "")
