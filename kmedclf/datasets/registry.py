"""Registry of the MedMNIST sets, in 2-D and 3-D: the facts that are known without a download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kmedclf.utils.text import suggest

Task = Literal["binary", "multiclass", "multilabel", "ordinal"]


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set.

    Attributes
    ----------
    name : str
        Name for `kmedclf.datasets.load`; of a file, its name without ``.npz``.
    title : str
        Printed name.
    task : {"binary", "multiclass", "multilabel", "ordinal"}
        Kind of classification. The classes of an ordinal set are integer grades.
    class_names : tuple of str
        One name per label, in the order of the labels.
    n_channels : int
        1 for grey images, 3 for RGB.
    n_samples : mapping of str to int
        Number of images in each existing split: "train", "val", "test".
    description : str
        What the images show.
    licence : str
        Terms of use; empty if unknown.
    md5 : mapping of int to str
        Checksum of the file of each image size; empty for a file of the user's.
    volumes : bool
        Whether an item is a volume (size, size, size) instead of an image. Networks take its slices
        along the last axis as channels, with ``image_shape`` set to all three sides.
    url : mapping of int to str
        Address of the file of each image size, on any host; empty for MedMNIST's Zenodo record.
    """

    name: str
    title: str
    task: Task
    class_names: tuple[str, ...]
    n_channels: int
    n_samples: Mapping[str, int] = field(hash=False)
    description: str = ""
    licence: str = ""
    md5: Mapping[int, str] = field(default_factory=dict, hash=False)
    url: Mapping[int, str] = field(default_factory=dict, hash=False)
    volumes: bool = False

    @property
    def n_classes(self) -> int:
        """Number of classes, or of labels in a multilabel set."""
        return len(self.class_names)


# Counts, labels, licences and checksums are those that MedMNIST 3 publishes (J. Yang et al.,
# "MedMNIST v2", Scientific Data 10, 41, 2023; files: Zenodo record 10519652).
# fmt: off
_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver",
    "lung-left", "lung-right", "pancreas", "spleen",
)
_ENTRIES = (
    DatasetInfo(
        name="pathmnist", title="PathMNIST", task="multiclass",
        description="colon tissue under the microscope, stained with H&E",
        class_names=(
            "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle",
            "normal colon mucosa", "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        n_channels=3, n_samples={"train": 89996, "val": 10004, "test": 7180},
        licence="CC BY 4.0",
        md5={
            28: "a8b06965200029087d5bd730944a56c1", 64: "55aa9c1e0525abe5a6b9d8343a507616",
            128: "ac42d08fb904d92c244187169d1fd1d9", 224: "2c51a510bcdc9cf8ddb2af93af1eadec",
        },
    ),
    DatasetInfo(
        name="chestmnist", title="ChestMNIST", task="multilabel",
        description="frontal chest X-rays, fourteen findings that may occur together",
        class_names=(
            "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule",
            "pneumonia", "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis",
            "pleural", "hernia",
        ),
        n_channels=1, n_samples={"train": 78468, "val": 11219, "test": 22433},
        licence="CC BY 4.0",
        md5={
            28: "02c8a6516a18b556561a56cbdd36c4a8", 64: "9de6cd0b934ebb5b7426cfba5efbae16",
            128: "db107e5590b27930b62dbaf558aebee3", 224: "45bd33e6f06c3e8cdb481c74a89152aa",
        },
    ),
    DatasetInfo(
        name="dermamnist", title="DermaMNIST", task="multiclass",
        description="pigmented skin lesions seen through a dermatoscope",
        class_names=(
            "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma",
            "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi",
            "vascular lesions",
        ),
        n_channels=3, n_samples={"train": 7007, "val": 1003, "test": 2005},
        licence="CC BY-NC 4.0",
        md5={
            28: "0744692d530f8e62ec473284d019b0c7", 64: "b70a2f5635c6199aeaa28c31d7202e1f",
            128: "2defd784463fa5243564e855ed717de1", 224: "8974907d8e169bef5f5b96bc506ae45d",
        },
    ),
    DatasetInfo(
        name="octmnist", title="OCTMNIST", task="multiclass",
        description="retinal layers in optical coherence tomography",
        class_names=(
            "choroidal neovascularization", "diabetic macular edema", "drusen", "normal",
        ),
        n_channels=1, n_samples={"train": 97477, "val": 10832, "test": 1000},
        licence="CC BY 4.0",
        md5={
            28: "c68d92d5b585d8d81f7112f81e2d0842", 64: "e229e9440236b774d9f0dfef9d07bdaf",
            128: "0a97e76651ace45c5d943ee3f65b63ae", 224: "abc493b6d529d5de7569faaef2773ba3",
        },
    ),
    DatasetInfo(
        name="pneumoniamnist", title="PneumoniaMNIST", task="binary",
        description="chest X-rays of children",
        class_names=(
            "normal", "pneumonia",
        ),
        n_channels=1, n_samples={"train": 4708, "val": 524, "test": 624},
        licence="CC BY 4.0",
        md5={
            28: "28209eda62fecd6e6a2d98b1501bb15f", 64: "8f4eceb4ccffa70c672198ea285246c6",
            128: "05b46931834c231683c68f40c47b2971", 224: "d6a3c71de1b945ea11211b03746c1fe1",
        },
    ),
    DatasetInfo(
        name="retinamnist", title="RetinaMNIST", task="ordinal",
        description="eye fundus photographs graded for diabetic retinopathy",
        class_names=(
            "0", "1", "2", "3", "4",
        ),
        n_channels=3, n_samples={"train": 1080, "val": 120, "test": 400},
        licence="CC BY 4.0",
        md5={
            28: "bd4c0672f1bba3e3a89f0e4e876791e4", 64: "afda852cc34dcda56f86ad2b2457dbcc",
            128: "e48e916a24454daf90583d4e6efb1a18", 224: "eae7e3b6f3fcbda4ae613ebdcbe35348",
        },
    ),
    DatasetInfo(
        name="breastmnist", title="BreastMNIST", task="binary",
        description="breast ultrasound",
        class_names=(
            "malignant", "normal, benign",
        ),
        n_channels=1, n_samples={"train": 546, "val": 78, "test": 156},
        licence="CC BY 4.0",
        md5={
            28: "750601b1f35ba3300ea97c75c52ff8f6", 64: "742edef2a1fd1524b2efff4bd7ba9364",
            128: "363e4b3f8d712e9b5de15470a2aaadf1", 224: "b56378a6eefa9fed602bb16d192d4c8b",
        },
    ),
    DatasetInfo(
        name="bloodmnist", title="BloodMNIST", task="multiclass",
        description="single blood cells of healthy donors under the microscope",
        class_names=(
            "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte",
            "monocyte", "neutrophil", "platelet",
        ),
        n_channels=3, n_samples={"train": 11959, "val": 1712, "test": 3421},
        licence="CC BY 4.0",
        md5={
            28: "7053d0359d879ad8a5505303e11de1dc", 64: "2b94928a2ae4916078ca51e05b6b800b",
            128: "adace1e0ed228fccda1f39692059dd4c", 224: "b718ff6835fcbdb22ba9eacccd7b2601",
        },
    ),
    DatasetInfo(
        name="tissuemnist", title="TissueMNIST", task="multiclass",
        description="kidney cortex cells in fluorescence microscopy",
        class_names=(
            "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule",
            "Glomerular endothelial cells", "Interstitial endothelial cells", "Leukocytes",
            "Podocytes", "Proximal Tubule Segments", "Thick Ascending Limb",
        ),
        n_channels=1, n_samples={"train": 165466, "val": 23640, "test": 47280},
        licence="CC BY 4.0",
        md5={
            28: "ebe78ee8b05294063de985d821c1c34b", 64: "123ece2eba09d0aa5d698fda57103344",
            128: "61b955355d7425a89687b06cca3ce0c2", 224: "b077128c4a949f0a4eb01517f9037b9c",
        },
    ),
    DatasetInfo(
        name="organamnist", title="OrganAMNIST", task="multiclass",
        description="abdominal CT cut axially, one organ each",
        class_names=_ORGANS,
        n_channels=1, n_samples={"train": 34561, "val": 6491, "test": 17778},
        licence="CC BY 4.0",
        md5={
            28: "68e3f8846a6bd62f0c9bf841c0d9eacc", 64: "2dcccc29b88e6da5a01161ef20cda288",
            128: "eeae80d0a227a8d099027e1b3cfd3b60", 224: "50747347e05c87dd3aaf92c49f9f3170",
        },
    ),
    DatasetInfo(
        name="organcmnist", title="OrganCMNIST", task="multiclass",
        description="abdominal CT cut coronally, one organ each",
        class_names=_ORGANS,
        n_channels=1, n_samples={"train": 12975, "val": 2392, "test": 8216},
        licence="CC BY 4.0",
        md5={
            28: "b9ceb9546e10131b32923c5bbeaea2b1", 64: "3ce34a8724ea6f548e6db4744d03b6a9",
            128: "773c1f009daa3fe5d9a2a201b2a7ed94", 224: "050f5e875dc056f6768abf94ec9995d1",
        },
    ),
    DatasetInfo(
        name="organsmnist", title="OrganSMNIST", task="multiclass",
        description="abdominal CT cut sagittally, one organ each",
        class_names=_ORGANS,
        n_channels=1, n_samples={"train": 13932, "val": 2452, "test": 8827},
        licence="CC BY 4.0",
        md5={
            28: "9ab87b696fb54e2a387ebe992d6ed5f1", 64: "53a6d115339d874c25e309a994ff46d3",
            128: "ded0c5fa01a95dc4978b956f613e9b8e", 224: "b354719e553fbbb2513d5533f52a4cb1",
        },
    ),
    DatasetInfo(
        name="organmnist3d", title="OrganMNIST3D", task="multiclass",
        description="abdominal CT around one organ each",
        class_names=(
            "liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder",
            "heart", "lung-right", "lung-left", "spleen", "pancreas",
        ),
        n_channels=1, n_samples={"train": 971, "val": 161, "test": 610},
        licence="CC BY 4.0", volumes=True,
        md5={28: "a0c5a1ff56af4f155c46d46fbb45a2fe", 64: "58a2205adf14a9d0a189cb06dc78bf10"},
    ),
    DatasetInfo(
        name="nodulemnist3d", title="NoduleMNIST3D", task="binary",
        description="lung nodules in thoracic CT",
        class_names=("benign", "malignant"),
        n_channels=1, n_samples={"train": 1158, "val": 165, "test": 310},
        licence="CC BY 4.0", volumes=True,
        md5={28: "8755a7e9e05a4d9ce80a24c3e7a256f3", 64: "c47c5b7d457bf6332200d2ea6d64ecd8"},
    ),
    DatasetInfo(
        name="adrenalmnist3d", title="AdrenalMNIST3D", task="binary",
        description="shapes of adrenal glands, as masks",
        class_names=("normal", "hyperplasia"),
        n_channels=1, n_samples={"train": 1188, "val": 98, "test": 298},
        licence="CC BY 4.0", volumes=True,
        md5={28: "bbd3c5a5576322bc4cdfea780653b1ce", 64: "17721accfe9fb005146a47d33bc54b2f"},
    ),
    DatasetInfo(
        name="fracturemnist3d", title="FractureMNIST3D", task="multiclass",
        description="rib fractures in CT",
        class_names=(
            "buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture",
        ),
        n_channels=1, n_samples={"train": 1027, "val": 103, "test": 240},
        licence="CC BY 4.0", volumes=True,
        md5={28: "6aa7b0143a6b42da40027a9dda61302f", 64: "f01d7e6316aedf4210da0da5b7437b42"},
    ),
    DatasetInfo(
        name="vesselmnist3d", title="VesselMNIST3D", task="binary",
        description="segments of brain vessels, as masks",
        class_names=("vessel", "aneurysm"),
        n_channels=1, n_samples={"train": 1335, "val": 191, "test": 382},
        licence="CC BY 4.0", volumes=True,
        md5={28: "b41fd4f7e7e2feedddb201585ecafa1b", 64: "6bb274a8846e1097066dcd64e2c4520f"},
    ),
    DatasetInfo(
        name="synapsemnist3d", title="SynapseMNIST3D", task="binary",
        description="synapses of a rat's brain under the electron microscope",
        class_names=("inhibitory synapse", "excitatory synapse"),
        n_channels=1, n_samples={"train": 1230, "val": 177, "test": 352},
        licence="CC BY 4.0", volumes=True,
        md5={28: "1235b78a3cd6280881dd7850a78eadb6", 64: "43bd14ebf3af9d3dd072446fedc14d5e"},
    ),
)
# fmt: on

# A new set is one more entry.
REGISTRY: dict[str, DatasetInfo] = {entry.name: entry for entry in _ENTRIES}


def names() -> list[str]:
    """List the names that `load` and `info` know.

    Returns
    -------
    list of str
        The names, in MedMNIST's order.

    Examples
    --------
    >>> from kmedclf import datasets
    >>> "bloodmnist" in datasets.names()
    True
    """
    return list(REGISTRY)


def find(name: str) -> DatasetInfo:
    """Look up a name; the error for an unknown one suggests the most similar."""
    if name in REGISTRY:
        return REGISTRY[name]
    hint = suggest(str(name).lower(), REGISTRY, n=1)
    raise ValueError(
        f"The data set must be the path of a .npz file or one of {', '.join(REGISTRY)}. "
        f"Got {name!r} instead{hint}"
    )
