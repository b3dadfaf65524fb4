"""What the methods paragraph may cite."""

from __future__ import annotations

REFERENCES = {
    "context": (
        "Sun L, Yu K, Batmanghelich K. Context matters: graph-based self-supervised representation learning "
        "for medical images. AAAI 2021; 35:4874–4882."
    ),
    "moco": (
        "He K, Fan H, Wu Y, Xie S, Girshick R. Momentum contrast for unsupervised visual representation "
        "learning. CVPR 2020:9729–9738."
    ),
    "infonce": (
        "van den Oord A, Li Y, Vinyals O. Representation learning with contrastive predictive coding. "
        "arXiv:1807.03748, 2018."
    ),
    "lungmask": (
        "Hofmanninger J, Prayer F, Pan J, Röhrich S, Prosch H, Langs G. Automatic lung segmentation in "
        "routine imaging is primarily a data diversity problem, not a methodology problem. Eur Radiol Exp "
        "2020; 4:50."
    ),
    "totalsegmentator": (
        "Wasserthal J, Breit HC, Meyer MT, et al. TotalSegmentator: robust segmentation of 104 anatomic "
        "structures in CT images. Radiol Artif Intell 2023; 5:e230024."
    ),
    "ants": (
        "Avants BB, Tustison NJ, Song G, Cook PA, Klein A, Gee JC. A reproducible evaluation of ANTs "
        "similarity metric performance in brain image registration. Neuroimage 2011; 54:2033–2044."
    ),
    "simpleitk": "Lowekamp BC, Chen DT, Ibáñez L, Blezek D. The design of SimpleITK. Front Neuroinform 2013; 7:45.",
    "sklearn": (
        "Pedregosa F, Varoquaux G, Gramfort A, et al. Scikit-learn: machine learning in Python. J Mach Learn "
        "Res 2011; 12:2825–2830."
    ),
    "consort": (
        "Cohen JF, Korevaar DA, Altman DG, et al. STARD 2015 guidelines for reporting diagnostic accuracy "
        "studies. BMJ Open 2016; 6:e012799."
    ),
    "cox": "Cox DR. Regression models and life-tables. J R Stat Soc B 1972; 34:187–220.",
}
"""References by a short name."""
