"""ReSET in vLLM, for both of its model runners.

::

    llm = LLM(model, logits_processors=["reset.integrations.vllm:ReSETLogitsProcessor"])
    params = SamplingParams(temperature=1.0, top_p=0.95, extra_args={"reset": True, "t_low": 0.3, "tau_0": 0.5505})

vLLM's current runner (V2) calls processors in another way than the one before (V1), and which of them runs is decided while the engine
starts. :class:`ReSETLogitsProcessor` is a subclass of both interfaces, and what it makes depends on how it is called: a V1 runner gets a
:class:`~reset.integrations.vllm.v1.ReSETLogitsProcessorV1`, a V2 runner a :class:`~reset.integrations.vllm.v2.ReSETLogitsProcessorV2`. A
vLLM from before V2 has the first alone.

No entry point is registered: vLLM would load it into every engine of the environment. Needs vLLM (``pip install 'reset-nvfp4[vllm]'``,
in an environment of its own: it pins torch and transformers).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from reset.integrations.vllm.parameters import Request, read_request

try:
    from reset.integrations.vllm.v1 import ReSETLogitsProcessorV1
except ModuleNotFoundError as error:
    raise ImportError(f"reset.integrations.vllm needs {error.name}: pip install 'reset-nvfp4[vllm]'", name=error.name) from error

if TYPE_CHECKING or find_spec("vllm.v1.worker.gpu.sample.logits_processor") is not None:
    from vllm.v1.sample.logits_processor import LogitsProcessor as InterfaceV1
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as InterfaceV2

    from reset.integrations.vllm.v2 import ReSETLogitsProcessorV2

    class ReSETLogitsProcessor(InterfaceV1, InterfaceV2):  # type: ignore[misc]
        """The processor of whichever model runner asks: V2 calls with two arguments, V1 with three."""

        def __new__(cls, vllm_config: Any, *arguments: Any) -> Any:
            """A processor of the runner's own interface."""
            made = ReSETLogitsProcessorV2 if len(arguments) == 1 else ReSETLogitsProcessorV1
            return made(vllm_config, *arguments)

        @classmethod
        def validate_params(cls, sampling_params: Any) -> None:
            """Raises ValueError for ``extra_args`` that make no policy."""
            read_request(sampling_params)

    __all__ = ["ReSETLogitsProcessor", "ReSETLogitsProcessorV1", "ReSETLogitsProcessorV2", "Request", "read_request"]
else:
    ReSETLogitsProcessor = ReSETLogitsProcessorV1
    __all__ = ["ReSETLogitsProcessor", "ReSETLogitsProcessorV1", "Request", "read_request"]
