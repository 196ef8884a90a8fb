//! Fields of `config.json`, judged one at a time: a wrong one is an error that names it.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A JSON object being read.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`.
    pub fn of(value: &'a Value) -> Result<Self> {
        let object = value.as_object().ok_or_else(|| Error::config("config.json", "holds no JSON object"))?;
        Ok(Self { object })
    }

    /// The value of `name`; null counts as absent.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|v| !v.is_null())
    }

    /// A required positive integer.
    pub fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| Error::config(name, "is missing; a positive integer is needed"))
    }

    /// A positive integer.
    pub fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        // Some writers store integers as 64.0.
        let whole = value.as_u64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && (1.0..9e15).contains(x)).map(|x| x as u64));
        match whole {
            Some(n) if n > 0 && n <= 1 << 32 => Ok(Some(n as usize)),
            _ => Err(wrong(name, value, "a positive integer")),
        }
    }

    /// A finite number above zero.
    pub fn positive(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64() {
            Some(x) if x.is_finite() && x > 0.0 => Ok(Some(x)),
            _ => Err(wrong(name, value, "a finite number above 0")),
        }
    }

    /// true or false, else `default`.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| wrong(name, value, "true or false"))
    }

    /// A string.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong(name, value, "a string"))
    }

    /// A list.
    pub fn list(&self, name: &str) -> Result<Option<&'a [Value]>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_array().map(|list| Some(list.as_slice())).ok_or_else(|| wrong(name, value, "a list"))
    }

    /// An object.
    pub fn object(&self, name: &str) -> Result<Option<Self>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_object().map(|object| Some(Self { object })).ok_or_else(|| wrong(name, value, "an object"))
    }
}

/// An error about the field `name`.
pub fn wrong(name: &str, found: &Value, expected: &str) -> Error {
    let text: String = found.to_string().chars().take(60).collect();
    Error::config(name, format!("found {text}, expected {expected}"))
}
