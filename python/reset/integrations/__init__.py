"""Adapters for other engines: :mod:`reset.integrations.transformers`, :mod:`reset.integrations.vllm`, :mod:`reset.integrations.lm_eval`.

Each is imported by who uses it and needs its engine installed. None registers an entry point: an engine finds nothing of this
package unless it is told to.
"""
