#!/bin/sh
# Environments of make test-frameworks: Axolotl 0.19.0 (transformers 5.16.1, trl 1.9) and LLaMA-Factory 0.9.5
# (transformers 5.6.0, trl 0.24); and of make test-trackers. All with torch 2.13.0 for CPU; ko_cpt_callbacks is taken
# from the checkout. They go to the folder that is named, or .venv-frameworks: `environments.sh [FOLDER]`.
set -eu
place=${1:-.venv-frameworks}
own="ruamel.yaml rich typer bitsandbytes pytest"

python3 -m venv "$place/trackers"
# SwanLab 0.10.3 has no `get_run()` that transformers can ask; mlflow-skinny is MLflow without its server.
"$place/trackers/bin/pip" install $own torch==2.13.0 transformers==5.23.0 accelerate peft datasets aim==3.29.1 \
    clearml==2.1.12 comet_ml==3.58.8 mlflow-skinny==3.17.2 swanlab==0.7.20 wandb==0.31.0

python3 -m venv "$place/axolotl"
# Axolotl without its dependencies: it pins CUDA-only ones (xformers, liger-kernel, torchao, flash-linear-attention).
"$place/axolotl/bin/pip" install $own torch==2.13.0 triton transformers==5.16.1 trl==1.9.0 peft==0.20.0 accelerate==1.13.0 \
    datasets==4.8.4 huggingface_hub==1.17.0 tokenizers==0.23.1 pydantic==2.12.5 packaging==26.0 addict fire requests \
    colorama numba scipy art python-dotenv einops evaluate fastcore zstandard schedulefree posthog wandb tensorboard \
    sentencepiece protobuf mistral-common axolotl-contribs-lgpl axolotl-contribs-mit "kernels>=0.16,<0.17" \
    gradio_client langdetect hf_transfer
"$place/axolotl/bin/pip" install --no-deps axolotl==0.19.0

python3 -m venv "$place/llamafactory"
"$place/llamafactory/bin/pip" install $own torch==2.13.0 llamafactory==0.9.5
# The published builds of these two need CUDA; text needs neither, but LLaMA-Factory imports the second by name.
"$place/llamafactory/bin/pip" uninstall -y torchvision torchaudio
site=$("$place/llamafactory/bin/python" -c "import site; print(site.getsitepackages()[0])")
mkdir -p "$site/torchaudio" && echo '"""Empty: text needs no audio."""' > "$site/torchaudio/__init__.py"
