"""The published facts: every number of the paper that the suite needs, each with its source.

Sources, by the short names used below:

- PAPER: "Galaxy Morphological Classification with Efficient Vision Transformer", arXiv:2110.01024.
- AUTHORS: the authors' code, https://github.com/sliao-mi-luku/Galaxy-Zoo-Classification at commit
  e39fa7eda2eb01e16af3709a78c7ef462bf3fb10 (its notebooks' settings, outputs and label tables).
"""

TITLE = "Galaxy Morphological Classification with Efficient Vision Transformer"
ARXIV = "2110.01024"

# AUTHORS, label tables: label1 is an index into this tuple.
CLASS_NAMES = (
    "Round Elliptical", "In-between Elliptical", "Cigar-shaped Elliptical", "Edge-on Spiral",
    "Barred Spiral", "Unbarred Spiral", "Irregular", "Merger",
)  # fmt: skip
CLASS_SHORT_NAMES = (
    "Round", "In-between", "Cigar-shaped", "Edge-on", "Barred", "Unbarred", "Irregular", "Merger",
)  # fmt: skip
CLASS_COUNT = len(CLASS_NAMES)

# AUTHORS, gz2_data/: label2, label3 and label4 merge the eight classes of label1.
MERGED_LABELS = {
    "label2": (0, 0, 0, 1, 2, 2, 3, 4), "label3": (0, 0, 0, 1, 1, 1, 2, 3),
    "label4": (0, 0, 0, 1, 1, 1, 2, 2),
}  # fmt: skip

# AUTHORS, gz2_data/: galaxies per class (label1) in each split, and their sum, 155,951.
SPLIT_CLASS_COUNTS = {
    "train": (21683, 25111, 4766, 10436, 13029, 19653, 3769, 1361),
    "valid": (5460, 6244, 1177, 2618, 3230, 4910, 980, 333),
    "test": (6755, 7845, 1471, 3295, 4148, 6094, 1176, 407),
}
CLASS_COUNTS = tuple(sum(counts) for counts in zip(*SPLIT_CLASS_COUNTS.values(), strict=True))
# PAPER: 64 % train, 16 % validation, 20 % test.
SPLIT_FRACTIONS = {"train": 0.64, "valid": 0.16, "test": 0.20}

# AUTHORS, notebooks: images are 424 x 424 px; the central 224 x 224 px are used.
IMAGE_PX, CROP_PX = 424, 224
# Willett et al. 2013: one image pixel is 0.02 x petroR90_r, so R90 always spans 50 px.
PIXEL_SCALE_PER_R90 = 0.02

# AUTHORS, notebooks: mean and standard deviation of (R, G, B) in units of full scale (0 to 1).
NORMALIZATION = {
    **dict.fromkeys(("linformer", "vit"), ((0.094, 0.0815, 0.063), (0.1303, 0.11, 0.0913))),
    **dict.fromkeys(("resnet50", "vgg16_bn"), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
    "hf_vit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

# AUTHORS, notebooks: RandomRotation(90), both flips, RandomResizedCrop(scale, ratio).
ROTATION_DEG, CROP_SCALE, CROP_RATIO = 90.0, (0.8, 1.0), (0.99, 1.01)

# AUTHORS, notebooks: weights of the loss per class, before they are scaled to sum to 8.
# PAPER prints them rounded: 0.19, 0.21, 0.98, 0.38, 0.53, 0.66, 1.81, 3.23.
TUNED_CLASS_WEIGHTS = (0.9, 1.0, 4.6, 1.8, 2.5, 3.1, 8.5, 15.2)

# AUTHORS, notebooks: common to all runs.
BATCH_SIZE, MAX_EPOCH, EARLY_STOPPING_EPOCHS, SEED = 64, 200, 10, 0

# AUTHORS, notebooks: Adam's learning rate, multiplied by gamma every step_size epochs.
SCHEDULES = {
    **dict.fromkeys(("linformer", "vit"), {"lr": 3.0e-4, "step_size": 5, "gamma": 0.9}),
    **dict.fromkeys(("resnet50", "vgg16_bn"), {"lr": 5.0e-5, "step_size": 10, "gamma": 0.1}),
    "hf_vit": {"lr": 5.0e-5, "step_size": 5, "gamma": 0.1},
}

# AUTHORS, notebooks: the networks, by the hyperparameters of `gz2vit.models`; ResNet-50 and VGG16
# are torchvision's, as they are.
NETWORKS = {
    "linformer": {"image_size": 224, "patch_size": 28, "depth": 12, "dim": 128, "k_dim": 64,
                  "heads": 8, "dropout": 0.1, "share_kv": False},
    "vit": {"image_size": 224, "patch_size": 16, "depth": 8, "dim": 256, "mlp_dim": 64,
            "heads": 8, "dropout": 0.1, "emb_dropout": 0.1},
    "resnet50": {}, "vgg16_bn": {},
    "hf_vit": {"image_size": 224, "patch_size": 16, "depth": 12, "dim": 768, "mlp_dim": 3072,
               "heads": 12, "dropout": 0.0},
}  # fmt: skip

# AUTHORS, outputs of their notebooks: seconds of a training epoch, and on which device.
EPOCH_SECONDS = {
    "linformer": (672, "Tesla T4"), "resnet50": (1574, "Tesla T4"), "vgg16_bn": (1854, "Tesla T4"),
    "hf_vit": (1649, "Tesla V100"),
}  # fmt: skip

# AUTHORS, notebooks: parameters of each network; accuracies and macro averages as printed there
# and in PAPER. A missing key is a number that was not published.
PUBLISHED_RESULTS = {
    "linformer": {
        "parameters": 2_785_416, "train_acc": 0.8193, "valid_acc": 0.8035, "test_acc": 0.8055,
        "recall_macro": 0.7233, "f1_macro": 0.7323,
        "class_acc": (0.9073, 0.8637, 0.6873, 0.8917, 0.7833, 0.7089, 0.4133, 0.5307),
    },
    "linformer_weighted": {
        "parameters": 2_785_416, "test_acc": 0.7742, "recall_macro": 0.7538, "f1_macro": 0.711,
        "class_acc": (0.8734, 0.758, 0.7327, 0.8476, 0.7449, 0.7112, 0.5998, 0.7628),
    },
    "vit": {"parameters": 4_719_368, "train_acc": 0.8261, "valid_acc": 0.815, "test_acc": 0.8166},
    "resnet50": {
        "parameters": 23_524_424, "train_acc": 0.8662, "valid_acc": 0.8534, "test_acc": 0.8558,
        "recall_macro": 0.792, "f1_macro": 0.8007,
        "class_acc": (0.9349, 0.8929, 0.7437, 0.9144, 0.8481, 0.7939, 0.5425, 0.6658),
    },
    "vgg16_bn": {
        "parameters": 134_301_768, "test_acc": 0.8522, "recall_macro": 0.7912, "f1_macro": 0.7979,
        "class_acc": (0.9313, 0.8877, 0.7451, 0.9105, 0.8546, 0.7877, 0.5077, 0.7052),
    },
    "hf_vit": {
        "parameters": 85_804_808, "train_acc": 0.8745, "valid_acc": 0.8491, "test_acc": 0.85,
        "recall_macro": 0.7896, "f1_macro": 0.7956,
        "class_acc": (0.9304, 0.8846, 0.7804, 0.898, 0.8515, 0.7793, 0.5366, 0.656),
    },
    "hf_vit_weighted": {
        "parameters": 85_804_808, "test_acc": 0.8275, "recall_macro": 0.8147, "f1_macro": 0.7836,
        "class_acc": (0.858, 0.8083, 0.8552, 0.8446, 0.8257, 0.8267, 0.7253, 0.774),
    },
}  # fmt: skip

# Willett et al. 2013 (MNRAS 435, 2835), Table 3: the least vote fraction of an answer that leads to
# a question (`gz2vit.votes.ANSWERS`).
WILLETT_MIN_FRACTION = {
    "smooth": 0.469, "features_or_disk": 0.430, "edgeon": 0.602, "not_edgeon": 0.715,
    "spiral": 0.619, "odd": 0.420,
}  # fmt: skip
# Zhu et al. 2019 (Ap&SS 364, 55): how round a smooth galaxy is, by its largest answer.
ZHU_MIN_FRACTION = {"completely_round": 0.50, "in_between": 0.50, "cigar_shaped": 0.50}
# The authors' own thresholds, which were never published: the two papers', and seven that only
# their label tables and the votes tell (`gz2vit.recover_rule`).
SELECTION_MIN_FRACTION = WILLETT_MIN_FRACTION | ZHU_MIN_FRACTION | {
    "not_odd": 0.5, "bar": 0.7, "no_bar": 0.7, "merger": 0.5, "disturbed": 0.5, "irregular": 0.5,
    "other": 0.5, "dust_lane": 0.5,
}  # fmt: skip

# PAPER, Fig. 2: two galaxies of each class, by GZ2 asset id, upper row first.
FIG2_GALAXY_IDS = (
    (243021, 111880), (30598, 101116), (289775, 134298), (40827, 229057),
    (277467, 82168), (117240, 269912), (141914, 259134), (270497, 221654),
)  # fmt: skip

# PAPER, Fig. 5: galaxies by GZ2 asset id: round ellipticals beside unbarred spirals, and mergers.
FIG5_GALAXY_IDS = {
    "A": (255743, 27691, 64423, 144548, 167739, 126270),
    "B": (143880, 10400, 111150, 132034, 63387, 10573),
}

# PAPER, Fig. 3: the Linformer's confusion matrices: rows true, columns predicted, percent of a row.
FIG3_CONFUSION_PERCENT = {
    "linformer": (
        (90.7, 5.4, 0.0, 0.0, 0.5, 2.6, 0.6, 0.2),
        (6.0, 86.4, 0.8, 0.3, 1.4, 4.2, 0.9, 0.1),
        (0.3, 6.3, 68.7, 18.1, 0.6, 5.2, 0.6, 0.1),
        (0.0, 1.0, 6.4, 89.2, 0.6, 1.8, 0.7, 0.3),
        (1.9, 3.2, 0.3, 1.5, 78.3, 12.2, 2.0, 0.7),
        (6.8, 9.9, 1.2, 1.6, 6.6, 70.9, 2.1, 0.9),
        (10.3, 11.0, 1.4, 5.7, 7.8, 18.6, 41.3, 3.9),
        (6.4, 4.2, 0.2, 3.7, 7.1, 17.0, 8.4, 53.1),
    ),
    "linformer_weighted": (
        (87.3, 4.1, 0.0, 0.0, 0.7, 4.5, 2.6, 0.7),
        (7.3, 75.8, 3.1, 0.3, 1.7, 7.1, 3.7, 1.0),
        (0.5, 2.1, 73.3, 17.6, 0.3, 4.2, 1.5, 0.5),
        (0.0, 0.7, 9.8, 84.8, 0.7, 1.8, 1.8, 0.5),
        (0.9, 2.0, 1.0, 1.1, 74.5, 14.4, 4.9, 1.2),
        (5.3, 5.9, 2.1, 1.4, 4.9, 71.1, 7.1, 2.2),
        (3.6, 4.0, 2.2, 4.4, 4.6, 15.0, 60.0, 6.2),
        (2.0, 1.0, 0.2, 0.5, 3.9, 5.6, 10.5, 76.3),
    ),
}

# PAPER, Fig. 4: test galaxies that its ViT (the Linformer) and its CNN (the ResNet-50) have right.
FIG4_MODELS = ("linformer", "resnet50")
FIG4_COUNTS = {"both right": 24_009, "only first": 1_116, "only second": 2_683, "both wrong": 3_383}
# PAPER, Fig. 4, read off the pixels of its picture: galaxies in bins of equal width, the first
# from `low_edge`. Heights are known to half a pixel: to 0.3 galaxies of "only first" and 0.6 of
# "only second"; "all" lies behind the lines in places, to 40. Of sizes above 25 arcsec, which are
# not in the picture, "only first" has 4; the others are taken to have the same share.
FIG4_HISTOGRAMS = {
    "petroR90_r": {
        "low_edge": 3.037, "width": 1.0982,
        "all": (986, 3116, 5246, 5476, 4496, 3528, 2596, 1761, 1144, 781,
                539, 405, 284, 284, 115, 103, 67, 79, 42, 30),
        "only first": (26, 120, 210, 217, 152, 126, 70, 56, 41, 28,
                       21, 11, 10, 10, 4, 6, 0, 3, 0, 1),
        "only second": (69, 210, 393, 455, 392, 306, 258, 170, 122, 79,
                        57, 57, 24, 31, 16, 8, 6, 11, 4, 7),
    },
    "dered_r": {
        "low_edge": 11.818, "width": 0.3119,
        "all": (2, 5, 13, 27, 45, 81, 225, 370, 496, 947,
                1289, 1957, 2768, 4121, 5906, 8413, 4463, 54, 9),
        "only first": (0, 0, 1, 2, 3, 4, 3, 8, 18, 23, 46, 60, 80, 121, 227, 323, 194, 3, 0),
        "only second": (0, 0, 0, 1, 5, 12, 16, 39, 52, 84,
                        111, 156, 262, 369, 499, 678, 394, 4, 0),
    },
}  # fmt: skip

AUTHORS_FILES = (
    "https://raw.githubusercontent.com/sliao-mi-luku/Galaxy-Zoo-Classification/"
    "e39fa7eda2eb01e16af3709a78c7ef462bf3fb10/gz2_data/"
)
# AUTHORS, gz2_data/gz2_predictions.md: the catalogue of their test predictions, verified by the
# name that git gives its content (SHA-1 of b"blob <bytes>\0" + content), and which of its 37
# columns holds the predictions of which network; others are the properties of `gz2vit.catalog`.
PREDICTION_CATALOGUE = {
    "url": f"{AUTHORS_FILES}gz2_predictions_0122_v2.csv",
    "git_blob_sha1": "b39a60d6c01a74799d2824a989674acfc8c8754e",
    "rows": 31_191,
    # the paper's Linformer is that of 2021-09; `pred_linF` is another, of 2022-01
    "predictions": {"linformer": "pred_linF_0921", "vit": "pred_vit", "resnet50": "pred_res"},
}
# AUTHORS, gz2_data/: another run of the fine-tuned ViT than the paper's, and its test accuracy.
HF_VIT_PREDICTIONS = {
    "url": f"{AUTHORS_FILES}gz2_hug_vit_121221C_predictions.csv", "test_acc": 0.8441,
}  # fmt: skip
# AUTHORS, notebooks' outputs: every epoch of seven of their runs; five are the paper's.
HISTORIES_FILE = "published_histories.csv"  # beside this module

# Galaxy Zoo 2's public files by kind, as `gz2vit download` fetches them (`download.RemoteFile`).
_ZENODO = "https://zenodo.org/records/3565489/files/"  # doi:10.5281/zenodo.3565489
_LABELS_SHA256 = {  # AUTHORS, gz2_data/: the files at the commit named above
    "train": "e31540b3235020cbbfb449bb96341f82f5e0e1eb550ed1863ac57348e6422332",
    "valid": "ddac9317095871c2d106d05994dd1405b472d006aef784516e3b4b0740a884cc",
    "test": "32c155a705f678acb0d65374d58de5388c452cd530a5a4615693d9fcff507b2e",
}
DATA_FILES = {
    "labels": tuple(
        {"url": f"{AUTHORS_FILES}gz2_{split}.csv", "entries": sum(SPLIT_CLASS_COUNTS[split]),
         "checksum": f"sha256:{sha256}", "place": ""}
        for split, sha256 in _LABELS_SHA256.items()
    ),
    # Which image shows which SDSS object. The MD5 was seen in one public code base, not on the
    # record's own page.
    "mapping": ({"url": f"{_ZENODO}gz2_filename_mapping.csv", "entries": 355_990,
                 "checksum": "md5:7e28465e6dfbf96c0d828c595a5bbd80"},),
    # Hart et al. 2016 (MNRAS 461, 3663): volunteers' votes. No checksum is published.
    "votes": ({"url": "https://gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz", "entries": 239_695,
               "columns": ("dr7objid",)},),
    # data.galaxyzoo.org, Galaxy Zoo 2's sample: sizes and magnitudes. No checksum is published.
    "properties": ({
        "url": "https://zooniverse-data.s3.amazonaws.com/galaxy-zoo-2/gz2sample.csv.gz",
        "entries": 325_704, "columns": ("OBJID", "PETROR90_R", "PETROMAG_R", "EXTINCTION_R")},),
    # The MD5 was seen in two public code bases, not on the record's own page.
    "images": ({"url": f"{_ZENODO}images_gz2.zip", "entries": 243_434, "size_bytes": 3_400_000_000,
                "checksum": "md5:bc647032d31e50c798770cf4430525c7"},),
}  # fmt: skip
