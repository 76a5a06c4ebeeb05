"""Exponential, softplus and sigmoid of `Lanes`, from polynomials that are fitted here.

This module imports numba, so it is imported where a scan is first compiled.
"""

import math
from collections.abc import Callable

import numpy as np
from llvmlite import ir

from kellgren.learn.backbones.scan.lanes import (
    inlined,
    instruction,
    like,
    vector,
    where_negative,
)
from kellgren.learn.backbones.scan.threads import WIDTH, Value

MANTISSA = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}


def fitted(
    function: Callable[[np.ndarray], np.ndarray], low: float, high: float
) -> dict[int, list[float]]:
    """Coefficients of a polynomial near a function, for single and for double precision."""
    fit = np.polynomial.chebyshev.Chebyshev.interpolate
    power = np.polynomial.Polynomial
    return {
        bits: fit(function, degree, domain=[low, high]).convert(kind=power).coef.tolist()
        for bits, degree in {32: 5, 64: 12}.items()
    }


def polynomial(coefficients: dict[int, list[float]]) -> Value:
    """A polynomial of lanes, by Horner's rule."""

    @instruction
    def evaluated(_typing: Value, x: Value) -> Value:
        def code(_context: Value, builder: Value, signature: Value, args: Value) -> Value:
            dtype = signature.args[0].dtype
            *rest, value = [
                ir.Constant(vector(dtype), [q] * WIDTH) for q in coefficients[dtype.bitwidth]
            ]
            for q in reversed(rest):
                product = builder.fmul(value, args[0], flags=("contract",))
                value = builder.fadd(product, q, flags=("contract",))
            return value

        return x(x), code

    return evaluated


@instruction
def power_of_two(_typing: Value, biased: Value) -> Value:
    """2**k, where the lowest bits of a number are k and the bias of an exponent."""

    def code(_context: Value, builder: Value, signature: Value, args: Value) -> Value:
        dtype = signature.args[0].dtype
        integers = ir.VectorType(ir.IntType(dtype.bitwidth), WIDTH)
        places = ir.Constant(integers, [MANTISSA[dtype.bitwidth]] * WIDTH)
        exponent = builder.shl(builder.bitcast(args[0], integers), places)
        return builder.bitcast(exponent, vector(dtype))

    return biased(biased), code


@instruction
def shift(_typing: Value, x: Value) -> Value:
    """A constant whose last bit counts as one and whose lowest bits are the exponent's bias."""

    def code(_context: Value, _builder: Value, signature: Value, _args: Value) -> Value:
        bits = signature.args[0].dtype.bitwidth
        value = 1.5 * 2.0 ** MANTISSA[bits] + BIAS[bits]
        return ir.Constant(vector(signature.args[0].dtype), [value] * WIDTH)

    return x(x), code


@instruction
def lowest(_typing: Value, x: Value) -> Value:
    """The exponent of the smallest normal number."""

    def code(_context: Value, _builder: Value, signature: Value, _args: Value) -> Value:
        dtype = signature.args[0].dtype
        return ir.Constant(vector(dtype), [1.0 - BIAS[dtype.bitwidth]] * WIDTH)

    return x(x), code


def _growth(f: np.ndarray) -> np.ndarray:
    """(2**f - 1) / f."""
    x = f * math.log(2)
    return np.where(x == 0, 1.0, np.expm1(x) / np.where(x == 0, 1.0, x)) * math.log(2)


def _log_series(squared: np.ndarray) -> np.ndarray:
    """2 artanh(s) / s, by the square of s."""
    s = np.sqrt(np.maximum(squared, 0.0))
    return np.where(s < 1e-4, 2 + squared * 2 / 3, 2 * np.arctanh(s) / np.where(s == 0, 1.0, s))


growth = polynomial(fitted(_growth, -0.5, 0.5))
log_series = polynomial(fitted(_log_series, 0.0, 1 / 9))
LOG2E = 1 / math.log(2)
LOG2E_HIGH = float(np.float32(LOG2E))
LOG2E_LOW = LOG2E - LOG2E_HIGH


@inlined
def decay_parts(x: Value) -> tuple[Value, Value]:
    """2**x of numbers that are not positive, as ``(1 + e) * p`` with p a power of two.

    Near one, e keeps what a rounded 2**x loses: a state that fades by a millionth a step would
    else fade wrongly. Never less than the smallest normal number; NaN stays NaN.
    """
    x = where_negative(x - lowest(x), lowest(x), x)
    biased = x + shift(x)
    f = x - (biased - shift(x))
    return f * growth(f), power_of_two(biased)


@inlined
def exp(x: Value) -> Value:
    """e**x of numbers that are not positive, to the last bit or so."""
    low = lowest(x) * like(x, 0.69)
    x = where_negative(x - low, low, x)
    biased = x * like(x, LOG2E) + shift(x)
    f = x * like(x, LOG2E_HIGH) - (biased - shift(x)) + x * like(x, LOG2E_LOW)
    return (like(x, 1.0) + f * growth(f)) * power_of_two(biased)


@inlined
def softplus(x: Value) -> Value:
    """log(1 + e**x), to a few last bits also where it is tiny."""
    zero = like(x, 0.0)
    e = exp(where_negative(x, x, zero - x))
    s = e / (e + like(x, 2.0))
    return where_negative(x, zero, x) + s * log_series(s * s)


@inlined
def sigmoid(x: Value) -> Value:
    """1 / (1 + e**-x)."""
    one = like(x, 1.0)
    e = exp(where_negative(x, x, like(x, 0.0) - x))
    return where_negative(x, e, one) / (one + e)
