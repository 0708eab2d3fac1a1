"""The files of cluster/ fit the schemas of their readers, each other, and the job that they start."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from job_runner import ROOT
from ray.autoscaler._private.util import prepare_config, validate_config

from nst_ops.config import StylizeConfig, parse_config

CLUSTER = ROOT / "cluster"
RAY_UP = ["aws-g4dn.yaml", "gcp-n1-2xt4.yaml"]
KUBERNETES = "1.33"
# Keys of ray.io/v1 in KubeRay 1.5.1; the API server would refuse others.
RAY_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "entrypoint", "entrypointNumCpus", "metadata", "rayClusterSpec",
    "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate",
    "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip
RAY_CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "headGroupSpec", "rayVersion",
    "workerGroupSpecs",
}  # fmt: skip
HEAD_GROUP = {"rayStartParams", "serviceType", "template"}
WORKER_GROUP = {
    "groupName", "idleTimeoutSeconds", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams",
    "replicas", "template",
}  # fmt: skip


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return content


def ray_job() -> dict[str, Any]:
    spec: dict[str, Any] = load("rayjob-stylize.yaml")["spec"]
    return spec


def groups() -> list[dict[str, Any]]:
    cluster = ray_job()["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_accepts_the_file(name):
    config = load(name)
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["setup_commands"] == [], "Ray's defaults would install another Ray"
    workers = [kind for key, kind in prepared["available_node_types"].items() if key != prepared["head_node_type"]]
    assert all(kind["resources"]["GPU"] for kind in workers)
    assert prepared["available_node_types"][prepared["head_node_type"]]["resources"] == {"CPU": 0}


def test_node_resources_are_those_of_their_machine_type():
    aws = load("aws-g4dn.yaml")["available_node_types"]
    shapes = {kind["node_config"]["InstanceType"]: kind["resources"] for kind in aws.values()}
    assert shapes["g4dn.xlarge"] == {"CPU": 4, "GPU": 1}
    assert shapes["g4dn.12xlarge"] == {"CPU": 48, "GPU": 4}
    google = load("gcp-n1-2xt4.yaml")["available_node_types"]["two_t4"]
    assert google["node_config"]["machineType"] == f"n1-standard-{google['resources']['CPU']}"
    (cards,) = google["node_config"]["guestAccelerators"]
    assert cards == {"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": google["resources"]["GPU"]}


def test_the_ray_job_has_only_keys_that_kuberay_knows():
    job = load("rayjob-stylize.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = ray_job()
    assert set(spec) <= RAY_JOB
    cluster = spec["rayClusterSpec"]
    assert set(cluster) <= RAY_CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD_GROUP
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKER_GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_pods_of_the_ray_job_fit_the_kubernetes_schema():
    for template in [ray_job()["submitterPodTemplate"], *(group["template"] for group in groups())]:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        (container,) = template["spec"]["containers"]
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes


def test_ray_gets_the_gpus_and_cores_of_its_pod():
    head, *workers = groups()
    assert head["rayStartParams"]["num-cpus"] == "0"
    for group in workers:
        (container,) = group["template"]["spec"]["containers"]
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests["nvidia.com/gpu"] == limits["nvidia.com/gpu"] == group["rayStartParams"]["num-gpus"]
        assert requests["cpu"] == group["rayStartParams"]["num-cpus"]
        assert requests["memory"] == limits["memory"]


def test_all_nodes_run_one_image_and_the_locked_ray():
    images = {container["image"] for group in groups() for container in group["template"]["spec"]["containers"]}
    images |= {c["image"] for c in ray_job()["submitterPodTemplate"]["spec"]["containers"]}
    images |= {load(name)["docker"]["image"] for name in RAY_UP}
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert images == {f"REGISTRY/nst-ops:{version[1]}"}
    locked = re.search(r"^ray(?:\[.*\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert ray_job()["rayClusterSpec"]["rayVersion"] == locked[1]


def test_no_file_holds_a_secret():
    for path in CLUSTER.iterdir():
        assert not re.search(r"AKIA[0-9A-Z]{16}|(SECRET_ACCESS_KEY|AUTH_TOKEN)\s*[=:]\s*['\"]?\w{16}", path.read_text())


def test_the_image_copies_files_that_exist_and_passes_hadolint():
    copied = []
    for step in DockerfileParser(path=str(CLUSTER)).structure:
        if step["instruction"] == "COPY":
            *sources, _ = shlex.split(step["value"])
            copied += sources
    assert {"requirements.lock", "nst_ops", "jobs", "configs"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    lint(["hadolint", str(CLUSTER / "Dockerfile")])


def test_the_slurm_script_passes_shellcheck():
    script = str(CLUSTER / "slurm-stylize.sh")
    subprocess.run(["bash", "-n", script], check=True)
    lint(["shellcheck", script])


def commands(text: str) -> list[list[str]]:
    """Return the arguments of every call of the job in YAML, shell, Markdown or comments."""
    text = re.sub(r"^ *#", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n|\n +(?=--)", " ", text)
    found = re.findall(r"(?:jobs/stylize_dataset\.py|sbatch cluster/slurm-stylize\.sh) (--[^\n`]*)", text)
    return [shlex.split(arguments) for arguments in found]


@pytest.mark.parametrize("name", ["rayjob-stylize.yaml", "slurm-stylize.sh", "README.md"])
def test_every_command_in_a_file_is_one_that_the_job_accepts(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = commands((CLUSTER / name).read_text())
    assert found
    for arguments in found:
        config = parse_config(StylizeConfig, arguments)
        assert config.input
        assert config.output


def test_every_file_named_by_the_readme_exists():
    text = (CLUSTER / "README.md").read_text()
    for name in re.findall(r"\b(?:cluster|configs|jobs)/[\w.-]+\.\w+", text):
        assert (ROOT / name).is_file(), name


def lint(command: list[str]) -> None:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
