"""One streaming pass gives what brute force gives."""

import numpy as np
import pytest
import torch

from lib.codes import CodeBatch, watch
from lib.evidence import encode, stream
from lib.kept import Evidence, Scores, TopImages
from lib.scenes.catalogue import ATOM_INDEX, ATOMS
from lib.vlm import VLM


def gather(vlm, sae, images, batch):
    top = TopImages(24, 4, 64)
    watch(stream(vlm, sae, images, batch, "test"), top)
    return top.result()


@pytest.fixture(scope="module")
def dense(tiny_vlm, tiny_sae, pictures):
    """All codes at once: ``[images, patches, latents]``."""
    with torch.inference_mode():
        return tiny_sae.encode(tiny_vlm.residual([pictures[i] for i in range(len(pictures))]))


def test_streaming_equals_brute_force(tiny_vlm, tiny_sae, pictures, dense):
    evidence = gather(tiny_vlm, tiny_sae, pictures, 6)
    scores = dense.mean(1)  # Eq. 3
    for latent in range(24):
        order = sorted(range(len(pictures)), key=lambda i: -float(scores[i, latent]))[:4]
        for place, image in enumerate(order):
            assert float(evidence.score[latent, place]) == pytest.approx(float(scores[image, latent]), abs=1e-4)
            if scores[image, latent] == 0:
                assert evidence.image[latent, place] == -1
                assert not evidence.heat[latent, place].any()
            else:
                found = int(evidence.image[latent, place])
                assert float(scores[found, latent]) == pytest.approx(float(scores[image, latent]), abs=1e-4)
                assert torch.allclose(evidence.heat[latent, place], dense[found, :, latent], atol=1e-3)
    assert torch.equal(evidence.fired, (dense.sum(1) > 0).sum(0))
    assert torch.equal(evidence.patches, (dense > 0).sum((0, 1)))


def test_batch_size_does_not_matter(tiny_vlm, tiny_sae, pictures):
    a, b = gather(tiny_vlm, tiny_sae, pictures, 3), gather(tiny_vlm, tiny_sae, pictures, 20)
    assert torch.equal(a.image, b.image) and torch.allclose(a.heat, b.heat, atol=1e-3)


def test_of_equal_scores_the_earlier_image_wins():
    top = TopImages(1, 2, 1)
    for first in range(3):
        top.see(CodeBatch(torch.tensor([first]), torch.ones(1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long)))
    assert top.result().image.tolist() == [[0, 1]]


def test_memory_does_not_grow_with_images():
    top = TopImages(8, 3, 4)
    size = sum(t.numel() for t in vars(top).values() if torch.is_tensor(t))
    generator = torch.Generator().manual_seed(0)
    for first in range(0, 500, 10):
        top.see(
            CodeBatch(
                torch.arange(first, first + 10),
                torch.rand(10, 4, 2, generator=generator),
                torch.randint(0, 8, (10, 4, 2), generator=generator),
            )
        )
    assert sum(t.numel() for t in vars(top).values() if torch.is_tensor(t)) == size


def test_scores_of_wanted_images(tiny_vlm, tiny_sae, pictures, dense):
    scores = Scores(24, [3, 11, 17])
    watch(stream(tiny_vlm, tiny_sae, pictures, 6, "test"), scores)
    assert torch.allclose(scores.scores, dense[[3, 11, 17]].mean(1), atol=1e-4)


def test_round_trip(tmp_path, tiny_vlm, tiny_sae, pictures):
    evidence = gather(tiny_vlm, tiny_sae, pictures, 6)
    again = Evidence.load(evidence.save(tmp_path / "e.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(vars(evidence).values(), vars(again).values()))


def test_truth_equals_brute_force(tiny_vlm, tiny_sae, pictures, dense):
    """Patch F1 and correctness from the small tables equal those from all codes and all masks."""
    counter = pictures.counter(24)
    watch(stream(tiny_vlm, tiny_sae, pictures, 6, "test"), counter)
    truth = counter.result()
    owner = np.stack([pictures.scene(i).patches().ravel() for i in range(len(pictures))])  # [images, patches]
    code = dense.numpy()
    text = "an animal on grass"
    atoms = [i for i, name in enumerate(ATOMS) if name == "grass" or i in range(ATOM_INDEX["dinosaur"] + 1)]
    named = np.isin(owner, atoms)
    for latent in range(24):
        on = code[..., latent] > 0
        tp, fp, fn = (on & named).sum(), (on & ~named).sum(), (~on & named).sum()
        assert truth.score(latent, text, "patch_f1") == pytest.approx(2 * tp / max(2 * tp + fp + fn, 1), abs=1e-6)
        precision = code[..., latent][named].sum() / max(code[..., latent].sum(), 1e-9)
        occurrences = [(i, a) for i in range(len(owner)) for a in atoms if (owner[i] == a).any()]
        met = sum((on[i] & (owner[i] == a)).any() for i, a in occurrences)
        recall = met / len(occurrences)
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert truth.score(latent, text) == pytest.approx(expected, abs=1e-4)
        sentence, best = truth.best_sentence(latent)
        assert best >= truth.best_element(latent)[1] - 1e-9
        assert best == pytest.approx(truth.score(latent, sentence), abs=1e-6)
    assert truth.score(0, "nothing that is known") == 0
    with pytest.raises(KeyError, match="no measure"):
        truth.score(0, text, "f2")


def test_images_are_encoded_once_for_all_observers(tiny_vlm, tiny_sae, pictures, monkeypatch):
    seen, residual = [], VLM.residual
    monkeypatch.setattr(VLM, "residual", lambda self, images: seen.append(len(images)) or residual(self, images))
    observers = TopImages(24, 3, 64), pictures.counter(24), Scores(24, [1, 2])
    watch(stream(tiny_vlm, tiny_sae, pictures, 8, "test"), *observers)
    assert seen == [8, 8, 4]


def test_encode_is_one_batch(tiny_vlm, tiny_sae, pictures, dense):
    part = encode(tiny_vlm, tiny_sae, [pictures[0], pictures[1]])
    assert torch.allclose(part.scores(24), dense[:2].mean(1), atol=1e-4)
