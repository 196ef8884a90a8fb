"""ReSET and NVFP4 in Hugging Face transformers.

:class:`ReSETLogitsProcessor` sets the temperature of every draw of ``model.generate``; :func:`quantize_linears` replaces the linear
layers of any torch model by NVFP4 ones that run on this package's kernels::

    processor = ReSETLogitsProcessor(reset.ReSET(t_low=0.3, tau_0=0.5), tokenizer=tokenizer)
    out = model.generate(**inputs, logits_processor=[processor], do_sample=True, temperature=1.0, top_k=0, max_new_tokens=512)
    processor.traces(out)[0].plot()

Needs torch and transformers (``pip install 'reset-nvfp4[transformers]'``).
"""

try:
    from reset.integrations.transformers.linears import NVFP4Linear, Replacement, quantize_linears
    from reset.integrations.transformers.processor import ReSETLogitsProcessor
except ModuleNotFoundError as error:
    raise ImportError(
        f"reset.integrations.transformers needs {error.name}: pip install 'reset-nvfp4[transformers]'", name=error.name
    ) from error

__all__ = ["NVFP4Linear", "ReSETLogitsProcessor", "Replacement", "quantize_linears"]
