"""`Settings`: where things lie and on what they run, from the environment and a `.env` file.

Only `defs/`, `definitions.py` and `cli/` read it; every other room gets values passed in.
"""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from thesis_assets.errors import InvalidKey
from thesis_assets.layout import SCENE_STAMPS, AdoptedTrees, ModelLedger, ProbesTree, ReportsTree, output_dir


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


_FOLDERS = {
    "canonical_gt_root": "canonical_gt",
    "preprocessing_root": "preprocessing",
    "renders_root": "renders",
    "scene_registry_dir": "scenes",
    "difix_data_root": "difix_tuning_data",
    "results_root": "results",
    "reports_root": "reports",
    "dagster_home": "dagster_home",
}
"""By root: its folder of `data_home`, unless it is set."""


class Settings(BaseSettings):
    """Roots default to folders of `data_home`; relative paths count from the working directory.

    Raises:
        pydantic.ValidationError: a value has the wrong form; the message names the variable.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, populate_by_name=True
    )

    data_home: Path = Field(default=Path("data"), validation_alias="THESIS_DATA_HOME")
    experiments_dir: Path = Field(default=Path("experiments"), validation_alias="THESIS_EXPERIMENTS_DIR")
    difix_data_root: Path = Field(default=Path(), validation_alias="THESIS_DIFIX_DATA_ROOT_DIR")
    results_root: Path = Field(default=Path(), validation_alias="THESIS_RESULTS_ROOT_DIR")
    preprocessing_root: Path = Field(default=Path(), validation_alias="THESIS_PREPROCESSING_ROOT_DIR")
    canonical_gt_root: Path = Field(default=Path(), validation_alias="THESIS_CANONICAL_GT_ROOT_DIR")
    renders_root: Path = Field(default=Path(), validation_alias="THESIS_RENDERS_ROOT_DIR")
    scene_registry_dir: Path = Field(default=Path(), validation_alias="THESIS_SCENE_REGISTRY_DIR")
    reports_root: Path = Field(default=Path(), validation_alias="THESIS_REPORTS_ROOT_DIR")
    dagster_home: Path = Field(default=Path(), validation_alias="DAGSTER_HOME")
    output_dir: str = Field(default="{results_root}/{run_name}/{scene_name}", validation_alias="THESIS_OUTPUT_DIR")
    launcher: Literal["local", "slurm"] = Field(default="local", validation_alias="THESIS_LAUNCHER")
    slurm_account: str | None = Field(default=None, validation_alias="THESIS_SLURM_ACCOUNT")
    slurm_partition: str | None = Field(default=None, validation_alias="THESIS_SLURM_PARTITION")
    slurm_qos: str | None = Field(default=None, validation_alias="THESIS_SLURM_QOS")
    slurm_setup: tuple[str, ...] = Field(default=(), validation_alias="THESIS_SLURM_SETUP")
    slurm_presets: dict[str, dict[str, Any]] = Field(default={}, validation_alias="THESIS_SLURM_PRESETS")
    slurm_array_at_once: int = Field(default=8, ge=1, validation_alias="THESIS_SLURM_ARRAY_AT_ONCE")
    slurm_signal_seconds: int = Field(default=120, ge=1, validation_alias="THESIS_SLURM_SIGNAL_SECONDS")
    slurm_poll_seconds: float = Field(default=10.0, gt=0, validation_alias="THESIS_SLURM_POLL_SECONDS")
    device: str = Field(default="auto", validation_alias="THESIS_DEVICE")
    workers: int = Field(default=0, ge=0, validation_alias="THESIS_WORKERS", description="0 = a core each")
    gpu_slots: int = Field(default=1, ge=1, validation_alias="THESIS_GPU_SLOTS")
    render_slots: int = Field(default=1, ge=1, validation_alias="THESIS_RENDER_SLOTS")
    upload_slots: int = Field(default=1, ge=1, validation_alias="THESIS_UPLOAD_SLOTS")
    auto_start: Literal["nothing", "data", "everything"] = Field(
        default="data",
        validation_alias="THESIS_AUTO_START",
        description="what sensors start by themselves: nothing; shards and tables; also declared tuning and evaluation",
    )
    sensor_seconds: int = Field(default=30, ge=1, validation_alias="THESIS_SENSOR_SECONDS")
    nightly_at: str = Field(
        default="0 2 * * *",
        pattern=r"^\S+( \S+){4}$",
        validation_alias="THESIS_NIGHTLY_AT",
        description="when the nightly backfill starts, once it is turned on: minute, hour, day, month, weekday",
    )
    owners: str = Field(
        default="team:difix", validation_alias="THESIS_OWNERS", description="e-mail addresses or team:<name>"
    )
    failure_command: str | None = Field(default=None, validation_alias="THESIS_FAILURE_COMMAND")
    failure_mail: str | None = Field(default=None, validation_alias="THESIS_FAILURE_MAIL")
    smtp_host: str = Field(default="localhost", validation_alias="THESIS_SMTP_HOST")
    smtp_port: int = Field(default=25, ge=1, le=65535, validation_alias="THESIS_SMTP_PORT")
    max_recording_mb: int = Field(default=2000, ge=1, validation_alias="THESIS_MAX_RECORDING_MB")
    ui_url: str = Field(
        default="http://127.0.0.1:3000",
        pattern=r"^https?://[^\s\"'<>]+$",
        validation_alias="THESIS_UI_URL",
        description="where the web UI is reached: for links from pages to runs, and the name that the server answers to",
    )
    split_recording_mb: int = Field(
        default=1500,
        ge=0,
        validation_alias="THESIS_SPLIT_RECORDING_MB",
        description="above it an epoch's tasks also get files of their own; 0 = never",
    )
    compare_mb: int = Field(
        default=200,
        ge=0,
        validation_alias="THESIS_COMPARE_MB",
        description="of all compare pages together that are made by themselves, a tenth at most a page; 0 = none",
    )
    compare_seconds: int = Field(
        default=120,
        ge=0,
        validation_alias="THESIS_COMPARE_SECONDS",
        description="after which a leaderboard begins no further compare page",
    )
    recording_previews: Literal["auto", "off"] = Field(default="auto", validation_alias="THESIS_RECORDING_PREVIEWS")
    quiet_seconds: int = Field(default=120, ge=0, validation_alias="THESIS_SCENE_QUIET_SECONDS")
    hf_rerun_repo_id: str | None = Field(default=None, validation_alias="HF_RERUN_REPO_ID")
    hf_rerun_public: bool = Field(
        default=False,
        validation_alias="THESIS_HF_RERUN_PUBLIC",
        description="whether a repo that publishing makes is public; one that is there stays as it is",
    )
    hf_cache_dir: Path | None = Field(default=None, validation_alias="THESIS_HF_CACHE_DIR")
    wandb_root: Path | None = Field(default=None, validation_alias="THESIS_WANDB_ROOT_DIR")
    body_models: Path | None = Field(default=None, validation_alias="THESIS_BODY_MODELS_DIR")
    lpips_weights: Path | None = Field(default=None, validation_alias="THESIS_LPIPS_WEIGHTS")
    hydra_root: Path | None = Field(default=None, validation_alias="THESIS_HYDRA_ROOT_DIR")
    conda_env: str | None = Field(default=None, validation_alias="THESIS_CONDA_ENV")

    @field_validator("owners")
    @classmethod
    def _owners_are_people_or_teams(cls, value: str) -> str:
        for owner in _words(value):
            if not re.fullmatch(r"team:[A-Za-z0-9_-]+|[^@\s:,]+@[^@\s:,]+\.[^@\s:,]+", owner):
                raise ValueError(f"THESIS_OWNERS: {owner!r} is neither an e-mail address nor team:<name>")
        return value

    @property
    def owner_names(self) -> list[str]:
        """The owners that the UI shows at every asset."""
        return _words(self.owners)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, values: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in values.items() if value != ""}

    @model_validator(mode="after")
    def _roots_are_absolute(self) -> "Settings":
        home = self.data_home.expanduser().resolve()
        values = self.__dict__
        for name, folder in _FOLDERS.items():
            given = name in self.model_fields_set
            values[name] = values[name].expanduser().resolve() if given else home / folder
        values["data_home"] = home
        values["experiments_dir"] = self.experiments_dir.expanduser().resolve()
        self._refuse_a_bad_template()
        return self

    def _refuse_a_bad_template(self) -> None:
        if self.output_dir == "thesis":
            return
        try:
            output_dir(self.output_dir, results_root=self.results_root, exp_name="e", run_name="r", scene_name="d_s")
        except InvalidKey as error:
            raise ValueError(" ".join(str(error).split())) from error
        for field in ("{run_name}", "{scene_name}"):
            if field not in self.output_dir:
                raise ValueError(f"THESIS_OUTPUT_DIR lacks {field}: two cells would share a folder")

    @property
    def adopted(self) -> AdoptedTrees:
        return AdoptedTrees(self.data_home / "adopted")

    @property
    def models(self) -> ModelLedger:
        return ModelLedger(self.experiments_dir.parent / "models")

    @property
    def probes(self) -> ProbesTree:
        return ProbesTree(self.data_home / "probes")

    @property
    def reports(self) -> ReportsTree:
        return ReportsTree(self.reports_root)

    @property
    def scene_stamps(self) -> Path:
        """Beside the history, of which scenes it was told: see `layout.SCENE_STAMPS`."""
        return self.dagster_home / SCENE_STAMPS

    @property
    def roots(self) -> dict[str, Path]:
        """Every root by its name, in the order a person looks for them."""
        return {name: getattr(self, name) for name in ("data_home", *_FOLDERS)}
