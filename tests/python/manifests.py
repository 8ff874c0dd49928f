"""Checks manifests of Kubernetes: `manifests.py FOLDER…` prints a line for each problem of each folder.

The schemas are those of kubernetes-validate. What they do not see is checked here: that what a manifest names is
there. `--commands` prints the arguments of each container instead, as JSON, one a line.
"""

import json
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml

# From this version on pods know the zone of their node.
VERSION = "1.35"


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, of which others silently take one."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(twice)} twice in line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def objects(folder: Path) -> list:
    """All objects of a folder, each with its file."""
    found = []
    for file in sorted(folder.glob("*.yaml")):
        documents = yaml.load_all(file.read_text(), Strict)
        found += [(file.name, document) for document in documents if document]
    return found


def templates(found: list):
    """The name, the labels and the specification of each pod that the objects make."""
    for _, made in found:
        spec = made.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            template = spec["template"]
            labels = template.get("metadata", {}).get("labels", {})
            yield made, labels, template["spec"]


def problems(found: list):
    for file, made in found:
        try:
            kubernetes_validate.validate(made, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{file}: {made['kind']}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{file}: {error.message}"
    names = {(made["kind"], made["metadata"]["name"]): made for _, made in found}
    pods = list(templates(found))

    def selects(selector: dict) -> bool:
        return any(selector.items() <= labels.items() for _, labels, _ in pods)

    for made, labels, spec in pods:
        name = f"{made['kind']} {made['metadata']['name']}"
        selector = made["spec"].get("selector", {}).get("matchLabels", {})
        if not selector.items() <= labels.items():
            yield f"{name} does not select its own pods"
        service = made["spec"].get("serviceName")
        if service and ("Service", service) not in names:
            yield f"{name}: there is no Service {service}"
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            for kind, of, key in [
                ("Secret", "secret", "secretName"),
                ("ConfigMap", "configMap", "name"),
                ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ]:
                if of in volume and (kind, volume[of][key]) not in names:
                    yield f"{name}: there is no {kind} {volume[of][key]}"
        for container in spec["containers"]:
            yield from problems_of(name, container, volumes, names)
    for (kind, name), made in names.items():
        spec = made.get("spec", {})
        if kind == "Service" and not selects(spec["selector"]):
            yield f"Service {name} selects no pods"
        if kind == "PodDisruptionBudget" and not selects(spec["selector"]["matchLabels"]):
            yield f"PodDisruptionBudget {name} selects no pods"
        if kind == "NetworkPolicy" and not selects(spec["podSelector"]["matchLabels"]):
            yield f"NetworkPolicy {name} selects no pods"


def problems_of(name: str, container: dict, volumes: dict, names: dict):
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container.get(probe, {})
        port = {**asked.get("tcpSocket", {}), **asked.get("httpGet", {})}.get("port")
        if port is not None and port not in [*ports, *ports.values()]:
            yield f"{name}: {probe} asks for port {port}, which the container has not"
    mounts = {}
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"{name}: there is no volume {mount['name']}"
        mounts[mount["mountPath"]] = volumes.get(mount["name"], {})
    variables = {variable["name"] for variable in container.get("env", [])}
    for argument in container.get("args", []):
        for part in argument.split("$(")[1:]:
            if part.split(")")[0] not in variables:
                yield f"{name}: {argument}: there is no such variable"
        if "=dns:" in argument:
            service, port = argument.split("=dns:")[1].split(":")
            there = names.get(("Service", service), {}).get("spec", {}).get("ports", [])
            if int(port) not in [port["port"] for port in there]:
                yield f"{name}: {argument}: there is no such Service"
        yield from problems_of_path(name, argument, mounts, names)
        if argument.endswith(".toml"):
            yield from problems_of_service(name, argument, ports, mounts, names)
    limit, own = (container["resources"]["limits"]["memory"], "--memory-limit=")
    for argument in container.get("args", []):
        if argument.startswith(own) and int(argument[len(own) : -1]) >= int(limit[:-2]):
            yield f"{name}: {argument} leaves nothing of {limit} for the rest of the process"


def problems_of_path(name: str, argument: str, mounts: dict, names: dict):
    """A file that is named is in something that is mounted."""
    path = argument.split("=")[-1].removeprefix("file:")
    if not path.startswith("/"):
        return None
    mounted = [mount for mount in mounts if path.startswith(f"{mount}/")]
    if not mounted:
        yield f"{name}: {argument}: nothing is mounted there"
        return None
    volume = mounts[max(mounted, key=len)]
    for kind, of, key in [("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")]:
        if of in volume:
            made = names.get((kind, volume[of][key]), {})
            held = {**made.get("stringData", {}), **made.get("data", {})}
            if Path(path).name not in held:
                yield f"{name}: {argument}: {kind} {volume[of][key]} has no such key"
            return held.get(Path(path).name)
    return None


def problems_of_service(name: str, file: str, ports: dict, mounts: dict, names: dict):
    """The file of a service names what is mounted, and listens where the container says."""
    text = yield from problems_of_path(name, file, mounts, names)

    def values(of: dict, key: str):
        for inner, value in of.items():
            yield from values(value, f"{key}.{inner}") if isinstance(value, dict) else [(f"{key}.{inner}", value)]

    for key, value in values(tomllib.loads(text or ""), Path(file).name):
        if not isinstance(value, str):
            continue
        yield from problems_of_path(f"{name}: {key}", value, mounts, names)
        if key.endswith(".listen") and int(value.rsplit(":", 1)[1]) not in ports.values():
            yield f"{name}: {key}: the container has no port {value.rsplit(':', 1)[1]}"


def main():
    arguments = sys.argv[1:]
    folders = [Path(argument) for argument in arguments if argument != "--commands"]
    for folder in folders:
        if "--commands" in arguments:
            for _, _, spec in templates(objects(folder)):
                print("\n".join(json.dumps(container["args"]) for container in spec["containers"]))
            continue
        try:
            found = objects(folder)
            lines = [f"{folder.name}: {line}" for line in problems(found)]
            print("\n".join(lines or [f"{folder.name}: {len(found)} objects are valid"]))
        except (yaml.YAMLError, KeyError, ValueError) as error:
            print(f"{folder.name}: {type(error).__name__}: {error}")


main()
