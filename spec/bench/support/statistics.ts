/** Summary of several rounds of a measurement. */
export interface Figure {
  readonly median: number
  readonly min: number
  readonly max: number
  readonly rounds: number
}

export function figure(values: readonly number[]): Figure {
  return { median: percentile(values, 50), min: Math.min(...values), max: Math.max(...values), rounds: values.length }
}

/** Ratios of two measurements, round by round, because a change of the machine between rounds affects both. */
export function ratio(values: readonly number[], references: readonly number[]): Figure {
  return figure(values.slice(0, references.length).map((value, round) => value / (references[round] ?? NaN)))
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Percentile by nearest rank. The median of an even count is the mean of the two middle values. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (index: number): number => sorted[Math.min(Math.max(index, 0), sorted.length - 1)] ?? NaN
  if (percent === 50 && sorted.length % 2 === 0) return (at(sorted.length / 2 - 1) + at(sorted.length / 2)) / 2
  return at(Math.ceil((percent / 100) * sorted.length) - 1)
}
