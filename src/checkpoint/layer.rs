//! The weights of one linear layer, and the scales of one attention module, as their tensors say.
//!
//! Lists of ignored layers in configurations are wrong often enough that they decide nothing here: U8 codes with their
//! scales are NVFP4 of the dialect whose names they bear, floats are dense, anything else is refused by its name.

use safetensors::Dtype;

use crate::checkpoint::dialect::{DIALECTS, Dialect};
use crate::checkpoint::header::quote;
use crate::checkpoint::{Checkpoint, config};
use crate::error::{Error, Result};
use crate::nvfp4::{BLOCK, Nvfp4Matrix, TensorScale};
use crate::tensor::Matrix;

/// A linear layer: `y = x · pre_quant_scale · Wᵀ + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWeights {
    /// `[rows, cols]`.
    pub weight: Matrix,
    /// `[rows]`.
    pub bias: Option<Vec<f32>>,
    /// Tensor scale of the layer's input (a multiplier), where activations were calibrated.
    pub input_scale: Option<f32>,
    /// `[cols]`: AWQ's factors, which multiply the input before anything else.
    pub pre_quant_scale: Option<Vec<f32>>,
}

/// Tensor scales of an attention module's key and value cache: `value = stored · scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvScales {
    /// Keys.
    pub k: f32,
    /// Values.
    pub v: f32,
}

/// Tensors below a layer that give a foreign layout away, and its name.
const FOREIGN: &[(&str, &str)] = &[
    ("qweight", "GPTQ, AWQ or FP-Quant storage"),
    ("svdquant_lora_a", "SVDQuant (ModelOpt NVFP4_SVD)"),
    ("svdquant_lora_b", "SVDQuant (ModelOpt NVFP4_SVD)"),
    ("weight_scale_inv", "block-scaled FP8 storage"),
    ("weight_zero_point", "asymmetric compressed-tensors storage"),
    ("_weight_qdata", "torchao storage"),
    ("weight.absmax", "bitsandbytes storage"),
    ("SCB", "bitsandbytes storage"),
    ("weight_blocks", "MXFP4 storage"),
    ("forward_hadamard_matrix", "FP-Quant storage"),
];

impl Checkpoint {
    /// The linear layer `prefix`, `[rows, cols]`: dense or NVFP4, with bias, input scale and AWQ factors where present.
    ///
    /// # Errors
    /// Names the tensor that is missing, has a wrong shape or type, or holds a scale that is not finite and positive.
    pub fn linear(&self, prefix: &str, rows: usize, cols: usize) -> Result<LinearWeights> {
        let mut parts = self.linear_parts(prefix, &[rows], cols)?;
        Ok(parts.swap_remove(0))
    }

    /// A layer that several projections share (`qkv_proj`, `gate_up_proj`), cut into parts of `parts[i]` rows.
    ///
    /// A scalar scale holds for every part; a scale with one element per part is given to its part.
    pub fn linear_parts(&self, prefix: &str, parts: &[usize], cols: usize) -> Result<Vec<LinearWeights>> {
        let rows = parts.iter().try_fold(0usize, |sum, &part| sum.checked_add(part));
        let rows = rows.ok_or_else(|| Error::config(prefix, "the number of rows overflows"))?;
        self.refuse_foreign(prefix)?;
        let name = |suffix: &str| format!("{prefix}.{suffix}");
        let dialect = self.dialect_of(prefix)?;
        let scales = dialect.map(|d| self.check_nvfp4(prefix, d, rows, cols, parts.len())).transpose()?;
        if dialect.is_none() {
            self.expect_shape(&name("weight"), &[rows, cols])?;
        }
        let input_scales = self.input_scales(prefix, dialect, parts.len())?;
        let bias = self.contains(&name("bias")).then(|| self.vector_f32(&name("bias"), rows)).transpose()?;
        let pre_quant_scale = self.pre_quant_scale(prefix, cols)?;
        let mut begin = 0;
        parts
            .iter()
            .enumerate()
            .map(|(part, &rows)| {
                let weight = match (dialect, &scales) {
                    (Some(d), Some(scales)) => Matrix::Nvfp4(self.nvfp4_rows(prefix, d, scales[part], begin, rows, cols)?),
                    _ => self.dense_rows(&name("weight"), begin, rows, cols)?,
                };
                let bias = bias.as_ref().map(|b| b[begin..begin + rows].to_vec());
                begin += rows;
                Ok(LinearWeights { weight, bias, input_scale: input_scales[part], pre_quant_scale: pre_quant_scale.clone() })
            })
            .collect()
    }

    /// Lets the operating system drop the pages of the layer `prefix` from memory, after it has been read for good.
    pub fn forget_linear(&self, prefix: &str) {
        for dialect in DIALECTS {
            for suffix in [dialect.codes, dialect.block_scales] {
                self.forget(&format!("{prefix}.{suffix}"));
            }
        }
    }

    /// Cache scales of the attention module `prefix` (`model.layers.0.self_attn`); `None` where there are none.
    ///
    /// A single `kv_scale` holds for both.
    pub fn kv_scales(&self, prefix: &str) -> Result<Option<KvScales>> {
        for dialect in DIALECTS {
            let [k, v] = dialect.kv_scales.map(|suffix| format!("{prefix}.{suffix}"));
            match (self.contains(&k), self.contains(&v)) {
                (false, false) => {}
                (true, true) => return Ok(Some(KvScales { k: self.scalar(&k)?, v: self.scalar(&v)? })),
                (found, _) => {
                    let (there, missing) = if found { (&k, &v) } else { (&v, &k) };
                    return Err(self.problem(there, format!("stands alone: {} is missing", quote(missing))));
                }
            }
        }
        let both = format!("{prefix}.kv_scale");
        if !self.contains(&both) {
            return Ok(None);
        }
        let scale = self.scalar(&both)?;
        Ok(Some(KvScales { k: scale, v: scale }))
    }

    /// The dialect whose codes the layer `prefix` has; `None` for a dense layer.
    pub(crate) fn dialect_of(&self, prefix: &str) -> Result<Option<&'static Dialect>> {
        let named = |d: &Dialect| format!("{prefix}.{}", d.codes);
        let mut found = DIALECTS.iter().copied().filter(|d| self.contains(&named(d)));
        let Some(dialect) = found.next() else { return Err(self.missing(&format!("{prefix}.weight"))) };
        if let Some(second) = found.next() {
            return Err(self.problem(&named(dialect), format!("and {} are both there; which one is meant?", quote(&named(second)))));
        }
        let codes = named(dialect);
        match self.find(&codes)?.1.dtype {
            Dtype::U8 => Ok(Some(dialect)),
            Dtype::F32 | Dtype::F16 | Dtype::BF16 if dialect.codes == "weight" => Ok(None),
            other => Err(self.unsupported_dtype(&codes, other)),
        }
    }

    fn refuse_foreign(&self, prefix: &str) -> Result<()> {
        match FOREIGN.iter().find(|(suffix, _)| self.contains(&format!("{prefix}.{suffix}"))) {
            Some((suffix, layout)) => Err(config::unsupported(self.dir(), format!("{layout} ({})", quote(&format!("{prefix}.{suffix}"))))),
            None => Ok(()),
        }
    }

    /// Checks names, types and shapes of an NVFP4 layer; returns the tensor scale of each part.
    fn check_nvfp4(&self, prefix: &str, dialect: &Dialect, rows: usize, cols: usize, parts: usize) -> Result<Vec<TensorScale>> {
        let [codes, block_scales, tensor_scale] =
            [dialect.codes, dialect.block_scales, dialect.tensor_scale].map(|suffix| format!("{prefix}.{suffix}"));
        if self.dtype(&block_scales) == Some(Dtype::U8) && !self.contains(&tensor_scale) {
            return Err(config::unsupported(self.dir(), format!("MXFP4 storage ({} is U8)", quote(&block_scales))));
        }
        for needed in [&block_scales, &tensor_scale] {
            if !self.contains(needed) {
                return Err(self.problem(&codes, format!("holds NVFP4 codes (U8), but {} is missing", quote(needed))));
            }
        }
        if !cols.is_multiple_of(BLOCK) {
            return Err(self.problem(&codes, format!("holds NVFP4 codes (U8), but the layer has {cols} columns, no multiple of {BLOCK}")));
        }
        self.expect_shape(&codes, &[rows, cols / 2])?;
        self.expect_shape(&block_scales, &[rows, cols / BLOCK])?;
        let dtype = self.find(&block_scales)?.1.dtype;
        if dtype != Dtype::F8_E4M3 {
            return Err(self.problem(&block_scales, format!("is {dtype}; NVFP4 block scales are F8_E4M3")));
        }
        Ok(self.scalars(&tensor_scale, parts)?.into_iter().map(dialect.meaning).collect())
    }

    /// Rows `begin..begin + rows` of a layer that [`Self::check_nvfp4`] accepted.
    fn nvfp4_rows(
        &self,
        prefix: &str,
        dialect: &Dialect,
        scale: TensorScale,
        begin: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Nvfp4Matrix> {
        let block_scales = format!("{prefix}.{}", dialect.block_scales);
        let cut = |name: &str, width: usize| Ok::<_, Error>(self.bytes(name)?[begin * width..(begin + rows) * width].to_vec());
        let codes = cut(&format!("{prefix}.{}", dialect.codes), cols / 2)?;
        let scales = cut(&block_scales, cols / BLOCK)?;
        Nvfp4Matrix::new(codes, scales, scale, rows, cols).map_err(|problem| self.problem(&block_scales, format!("is damaged: {problem}")))
    }

    /// Input scale of each part, as a multiplier. Looked for in every dialect where the weight itself is dense.
    fn input_scales(&self, prefix: &str, dialect: Option<&'static Dialect>, parts: usize) -> Result<Vec<Option<f32>>> {
        let Some(dialect) = dialect else { return Ok(vec![None; parts]) };
        let name = format!("{prefix}.{}", dialect.input_scale);
        if !self.contains(&name) {
            return Ok(vec![None; parts]);
        }
        let scales = self.scalars(&name, parts)?;
        let multiplier = |stored: f32| {
            let scale = (dialect.meaning)(stored).multiplier();
            if scale.is_finite() && scale > 0.0 {
                Ok(Some(scale))
            } else {
                Err(self.problem(&name, format!("= {stored} has no reciprocal")))
            }
        };
        scales.into_iter().map(multiplier).collect()
    }

    fn pre_quant_scale(&self, prefix: &str, cols: usize) -> Result<Option<Vec<f32>>> {
        let name = format!("{prefix}.pre_quant_scale");
        if !self.contains(&name) {
            return Ok(None);
        }
        let scales = self.vector_f32(&name, cols)?;
        match scales.iter().position(|s| !s.is_finite()) {
            Some(index) => Err(self.problem(&name, format!("element {index} is {}", scales[index]))),
            None => Ok(Some(scales)),
        }
    }

    /// One finite positive number, of shape `[]` or `[1]`.
    fn scalar(&self, name: &str) -> Result<f32> {
        Ok(self.scalars(name, 1)?[0])
    }

    /// A scale for each of `count` parts, from a tensor of one element or of `count`.
    fn scalars(&self, name: &str, count: usize) -> Result<Vec<f32>> {
        let values = self.floats(name)?;
        let (_, info) = self.find(name)?;
        if info.shape.len() > 1 || (values.len() != 1 && values.len() != count) {
            let allowed = if count == 1 { String::new() } else { format!(" or [{count}]") };
            return Err(self.problem(name, format!("has shape {:?}; a scale is [] or [1]{allowed}", info.shape)));
        }
        if let Some(bad) = values.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            let hint = if *bad == 0.0 { " (ModelOpt writes 0 for a layer of zeros)" } else { "" };
            return Err(self.problem(name, format!("is {bad}{hint}; a scale is a finite positive number")));
        }
        Ok(if values.len() == 1 { vec![values[0]; count] } else { values })
    }
}
