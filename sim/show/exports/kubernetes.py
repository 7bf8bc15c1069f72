"""A Kubernetes Deployment and Service of `vllm serve`: as many pods as replicas, as many devices a pod as a replica.

Field names: the Kubernetes API (apps/v1, v1); images and resource names as vLLM's and the device plug-ins' pages have
them. Where a model's weights come from, secrets and storage are the cluster's own business and not in it.
"""

import dataclasses
import json
import re
import shlex
from typing import TYPE_CHECKING

from kernels.errors import InputError
from sim.run.front_write import command_of

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

HELP = "a Kubernetes manifest (Deployment and Service) of `vllm serve`"
MAKER = {"NVIDIA": ("nvidia.com/gpu", "vllm/vllm-openai"), "AMD": ("amd.com/gpu", "rocm/vllm")}
"""By the maker that a device's title begins with: what a pod asks for, and the image that vLLM's pages name."""
TAG = {"vllm_0.15": ":v0.15.1", "vllm_0.33": ":v0.33.0"}  # the releases whose schedulers were examined
PORT = 8000


def export(done: "Simulation") -> bytes:
    """YAML. A replica is a pod, so `dp` becomes `replicas`; one that spans nodes is an error."""
    scenario, setup = done.setup.scenario, done.setup
    devices = scenario.tp * scenario.pp * scenario.attn_dp
    node = setup.system.node
    if node is not None and devices > node.num_device:
        raise InputError("a replica of several nodes is no single pod", field="tp", value=devices,
                         allowed=f"up to {node.num_device} devices")  # fmt: skip
    maker = setup.system.device.title.split()[0]
    if maker not in MAKER:
        raise InputError("no resource of a pod is known for this device", field="system", value=scenario.system,
                         allowed="a device whose title begins with " + " or ".join(MAKER))  # fmt: skip
    resource, image = MAKER[maker]
    line = shlex.split(command_of("vllm", dataclasses.replace(scenario, dp=1)))
    name = re.sub(r"[^a-z0-9]+", "-", scenario.model.lower()).strip("-")[-50:].strip("-") or "model"
    tag = TAG.get(scenario.engine, "") if maker == "NVIDIA" else ""
    arguments = "\n".join(f"            - {json.dumps(word)}" for word in [*line[2:], "--port", str(PORT)])
    return f"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  replicas: {scenario.dp}
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      containers:
        - name: vllm
          image: {image}{tag}
          command: ["vllm", "serve"]
          args:
{arguments}
          ports:
            - containerPort: {PORT}
          resources:
            limits:
              {resource}: "{devices}"
          readinessProbe:
            httpGet: {{path: /health, port: {PORT}}}
          volumeMounts:
            - {{name: shm, mountPath: /dev/shm}}
      volumes:
        - name: shm
          emptyDir: {{medium: Memory}}
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector: {{app: {name}}}
  ports:
    - port: {PORT}
      targetPort: {PORT}
""".encode()
