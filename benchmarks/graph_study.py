"""What helps the graph level, on held-out phantoms: one trained E, many short trainings of G.

    python benchmarks/graph_study.py TRAIN_STUDY TRAIN_COHORT TEST_STUDY TEST_COHORT MODEL --json OUT.json

E of ``MODEL`` encodes K augmented views of each subject of the first cohort once, and the unaugmented patches of all
subjects; the features are cached in ``--cache``. Each arm then trains G and f_g on pairs of views, from new weights,
and is scored as in `phantom_study.py`: ridge probes fitted on the first cohort, R² on the second, of subjects' features
and of nodes. Arms differ in one thing from the first, which is the default preset with ``--updates`` updates.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from phantom_study import DISEASES, extents_of, fit_and_score, region_truth
from tqdm import tqdm

from anatograph.anatomy.graph import GraphSettings, edges
from anatograph.embedding.sources import shown_of
from anatograph.learning.contrast.augmentation import Augmenter
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.data.sampler import SubjectSampler
from anatograph.learning.memory import keep_memory
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model
from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.model.networks import GraphNetwork, pool_nodes
from anatograph.learning.model.windowing import window
from anatograph.learning.training.bank import CHUNK, Bank
from anatograph.learning.training.graph_stage import graph_update
from anatograph.learning.training.launch import bf16_on_processor
from anatograph.learning.training.presets import PRESETS
from anatograph.learning.training.schedule import learning_rate
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainState
from anatograph.study.store import Study

Array = NDArray[Any]


@dataclass(frozen=True)
class Arm:
    """One way to train G."""

    name: str
    settings: PretrainSettings
    graph: GraphSettings
    updates: int
    views: int = 4


def arms(updates: int) -> list[Arm]:
    """The first is the default; each other one differs in what its name says."""
    base, atlas = replace(PRESETS["default"], warmup=0.05), GraphSettings()

    def arm(name: str, times: float = 1.0, views: int = 4, graph: GraphSettings = atlas, **changes: Any) -> Arm:
        settings = replace(base, **{k: v for k, v in changes.items() if k != "model"})
        if "model" in changes:
            settings = replace(settings, model=replace(settings.model, **changes["model"]))
        return Arm(name, settings, graph, int(updates * times), views)

    sgd = {"optimiser": "sgd", "graph_learning_rate": 0.03}
    return [
        arm("default"),
        *(arm(f"default, seed {seed}", seed=seed) for seed in (1, 2)),
        arm("f_l's features into the graph", model={"graph_input": "projection"}),
        arm("rho 39 mm (18 neighbours)", graph=GraphSettings("atlas", 39.0)),
        arm("rho 46 mm (26 neighbours)", graph=GraphSettings("atlas", 46.0)),
        arm("rule distance (eq. 3)", graph=GraphSettings("distance")),
        arm("rule overlap (published code)", graph=GraphSettings("overlap")),
        arm("no weights of its own", model={"graph_own": False}),
        arm("own weights", model={"graph_own": True}),
        arm("no graph", model={"graph": False}),
        arm("2 views", views=2),
        arm("quarter of the updates", times=0.25),
        arm("four times the updates", times=4.0),
        arm("SGD 0.03", **sgd),
        arm("momentum 0.9", graph_key_momentum=0.9),
        arm("momentum 0.99", graph_key_momentum=0.99),
        arm("own subject's keys are negatives", mask_same_subject=False, in_batch=False),
        arm("no negatives from the batch", in_batch=False),
        arm("temperature 0.1", temperature=0.1),
        arm("LayerNorm", model={"graph_norm": "group"}),
        arm("untrained", times=0.0),
    ]


@torch.inference_mode()
def encode(model: Model, study: Study, views: int, augmenter: Augmenter) -> dict[str, Array]:
    """C's and f_l's features of a study: ``clean`` (S, N, F) float32; where asked ``views`` (S, K, N, F) float16."""
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16_on_processor())
    found: dict[str, list[Array]] = {}
    model.eval()

    def through(x: torch.Tensor, codes: torch.Tensor) -> tuple[Array, Array]:
        with autocast:
            c = torch.cat([model.encode(part).float() for part in x.split(CHUNK["cpu"])])
        return c.numpy(), model.project(c, codes).numpy()

    for number, subject_id in enumerate(tqdm(study.subject_ids, desc="features")):
        subject = study.subject(subject_id)
        x = window(torch.from_numpy(shown_of(subject, model.config)), model.config.hu_low, model.config.hu_high)
        for name, value in zip(("encoder", "projection"), through(x, model.location_codes), strict=True):
            found.setdefault(f"clean {name}", []).append(value)
        seen = [through(augmenter.subject_view(x, (0, 4, number, v)), model.location_codes) for v in range(views)]
        for k, name in enumerate(("encoder", "projection")):
            if views:
                found.setdefault(f"views {name}", []).append(np.stack([s[k] for s in seen]).astype(np.float16))
    return {name: np.stack(values) for name, values in found.items()}


def kept(path: Path, make: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    """What ``path`` holds, made now if it does not exist."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **make())
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def gathered(features: Array, study: Study, graph: GraphSettings, network: GraphNetwork) -> torch.Tensor:
    """Message passing over each subject's graph: (S, ..., N, F) to (S, ..., N, F or 2F), half precision."""
    wide = features.shape[-1] * (1 if network.own_weight is None else 2)
    out = torch.empty((*features.shape[:-1], wide), dtype=torch.float16)
    for row, subject_id in enumerate(study.subject_ids):
        subject = study.subject(subject_id)
        atlas = study.atlas
        found = edges(
            subject.landmarks,
            atlas.landmarks,
            graph.rule,
            rho=graph.rho,
            step=atlas.step,
            patch_size=atlas.patch_size,
            min_overlap=graph.min_overlap,
        )
        graphs = make_graphs([found], len(atlas), subject.present[None])
        for index in np.ndindex(features.shape[1:-2]):
            h = torch.from_numpy(features[(row, *index)].astype(np.float32))
            out[(row, *index)] = network.gather(h[None], graphs)[0].half()
    return out


def train(arm: Arm, model: Model, bank: Bank) -> Model:
    """G and f_g trained on the bank, G's BatchNorm estimated on it."""
    torch.manual_seed(arm.settings.seed)
    fresh = Model(arm.settings.model, model.location_codes.numpy())
    subjects = len(bank.subjects)
    state = TrainState(fresh, arm.settings, subjects, torch.device("cpu"))
    sampler = SubjectSampler(subjects, arm.settings.graph_batch, arm.settings.seed)
    for update in range(arm.updates):
        rate = learning_rate(update, arm.updates, arm.settings.graph_learning_rate, arm.settings.warmup)
        graph_update(state, arm.settings, bank, sampler.rows(update, bank.subjects), update, rate)
    if state.model.graph is not None:
        network = state.model.graph
        batches = [(bank.gathered[i : i + 16, 0].float(), bank.present[i : i + 16]) for i in range(0, subjects, 16)]
        recalibrate_batchnorm(network, batches, lambda b: network.nodes(*b))  # type: ignore[arg-type]
    return state.model.eval()


@torch.inference_mode()
def features(model: Model, clean: torch.Tensor, present: torch.Tensor, step: int) -> tuple[Array, Array]:
    """Subjects (S, F) and every ``step``-th node (S, n, F), NaN where absent."""
    subjects, nodes = [], []
    for h, there in zip(clean.float(), present, strict=True):
        node = h[None] if model.graph is None else model.graph.nodes(h[None], there[None])
        subjects.append(pool_nodes(node, there[None])[0].double().numpy())
        nodes.append(node[0].masked_fill(~there[:, None], float("nan"))[::step].double().numpy())
    return np.stack(subjects), np.stack(nodes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train_study", "train_cohort", "test_study", "test_cohort", "model"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--step", type=int, default=4, help="score nodes at every n-th landmark")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of arms")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_memory()
    studies = Study.open(args.train_study), Study.open(args.test_study)
    cohorts = args.train_cohort, args.test_cohort
    model = load_model(args.model)
    augmenter = Augmenter(PRESETS["default"].augment)
    made = [
        kept(args.cache / f"{name}.npz", lambda s=study, v=views: encode(model, s, v, augmenter))
        for name, study, views in zip(("train", "test"), studies, (args.views, 0), strict=True)
    ]
    truth = [region_truth(c, s) for c, s in zip(cohorts, studies, strict=True)]
    extents = [extents_of(c, s) for c, s in zip(cohorts, studies, strict=True)]
    present = [torch.from_numpy(np.stack([s.subject(i).present for i in s.subject_ids])) for s in studies]
    rows: list[dict[str, Any]] = []
    for arm in arms(args.updates):
        if args.only and arm.name not in args.only:
            continue
        kind = arm.settings.model.graph_input
        graph = arm.graph

        def pass_on(values: Array, study: Study, arm: Arm = arm, graph: GraphSettings = graph) -> torch.Tensor:
            network = Model(arm.settings.model, model.location_codes.numpy()).graph
            return torch.from_numpy(values).half() if network is None else gathered(values, study, graph, network)

        views = pass_on(made[0][f"views {kind}"][:, : arm.views], studies[0])
        trained = train(arm, model, Bank(np.arange(len(views)), views, present[0], torch.arange(len(views))))
        found = [
            features(trained, pass_on(m[f"clean {kind}"], s), p, args.step)
            for m, s, p in zip(made, studies, present, strict=True)
        ]
        row: dict[str, Any] = {"arm": arm.name}
        for disease in DISEASES:
            y = [e[f"{disease}_extent"].to_numpy(float) for e in extents]
            who = [np.arange(len(one)) for one in y]
            subject = fit_and_score(found[0][0], y[0], who[0], found[1][0], y[1], who[1])
            y = [t[disease][:, :: args.step] for t in truth]
            who = [np.repeat(np.arange(len(one)), one.shape[1]) for one in y]
            flat = [f[1].reshape(-1, f[1].shape[2]) for f in found]
            node = fit_and_score(flat[0], y[0].ravel(), who[0], flat[1], y[1].ravel(), who[1])
            row |= {f"subject {disease}": round(subject[0], 3), f"node {disease}": round(node[0], 3)}
        rows.append(row)
        print(json.dumps(row), flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
