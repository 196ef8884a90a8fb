//! Memory of the device that follows the host: facts that change between calls, constants, and room that grows.

use std::collections::HashMap;

use crate::backend::cuda::buffer::{Buffer, Element};
use crate::backend::cuda::engine::queue::Queue;
use crate::error::Result;

/// Numbers of the host, copied when they change.
#[derive(Debug)]
pub struct Mirror<T: Element> {
    host: Vec<T>,
    buffer: Option<Buffer<T>>,
}

impl<T: Element> Default for Mirror<T> {
    fn default() -> Self {
        Self { host: Vec::new(), buffer: None }
    }
}

impl<T: Element + PartialEq> Mirror<T> {
    /// The address of `data` on the device.
    pub fn set(&mut self, queue: &Queue, data: &[T]) -> Result<u64> {
        let buffer = match &mut self.buffer {
            Some(buffer) if buffer.len() >= data.len() => buffer,
            _ => {
                self.host.clear();
                queue.stream.synchronize()?; // what it holds may still read the memory that goes
                self.buffer.insert(Buffer::new(&queue.device, data.len().next_power_of_two())?)
            }
        };
        if self.host != data {
            self.host.clear();
            buffer.upload(&queue.stream, 0, data)?;
            self.host.extend_from_slice(data);
        }
        Ok(buffer.pointer())
    }
}

/// Vectors that do not change, such as the weights of norms: known by where they are on the host, and looked at again each time.
#[derive(Debug, Default)]
pub struct Constants {
    known: HashMap<(usize, usize), Mirror<f32>>,
}

impl Constants {
    /// The address of `data` on the device.
    pub fn get(&mut self, queue: &Queue, data: &[f32]) -> Result<u64> {
        self.known.entry((data.as_ptr() as usize, data.len())).or_default().set(queue, data)
    }
}

/// Scratch memory, as much as was ever asked for.
#[derive(Debug)]
pub struct Room<T: Element> {
    buffer: Option<Buffer<T>>,
}

impl<T: Element> Default for Room<T> {
    fn default() -> Self {
        Self { buffer: None }
    }
}

impl<T: Element> Room<T> {
    /// Room for `len` elements, whatever they are.
    pub fn at_least(&mut self, queue: &Queue, len: usize) -> Result<u64> {
        match &self.buffer {
            Some(buffer) if buffer.len() >= len => Ok(buffer.pointer()),
            _ => {
                queue.stream.synchronize()?; // what it holds may still use the memory that goes
                self.buffer = None; // first, so that both need not fit
                Ok(self.buffer.insert(Buffer::new(&queue.device, len)?).pointer())
            }
        }
    }

    /// Elements there is room for.
    pub fn len(&self) -> usize {
        self.buffer.as_ref().map_or(0, Buffer::len)
    }

    /// The same, zeros when made.
    pub fn zeros(&mut self, queue: &Queue, len: usize) -> Result<u64> {
        let before = self.buffer.as_ref().map_or(0, Buffer::len);
        let at = self.at_least(queue, len)?;
        if let Some(buffer) = self.buffer.as_mut().filter(|buffer| buffer.len() > before) {
            buffer.fill(&queue.stream, 0)?;
        }
        Ok(at)
    }

    /// The first elements.
    pub fn download(&self, queue: &Queue, out: &mut [T]) -> Result<()> {
        self.buffer.as_ref().map_or(Ok(()), |buffer| buffer.download(&queue.stream, 0, out))
    }

    /// Replaces elements from `at` on.
    pub fn upload(&mut self, queue: &Queue, at: usize, data: &[T]) -> Result<()> {
        self.buffer.as_mut().map_or(Ok(()), |buffer| buffer.upload(&queue.stream, at, data))
    }
}
