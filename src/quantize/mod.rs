//! Recipes that turn dense matrices into NVFP4.
