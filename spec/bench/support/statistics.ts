/** What several rounds of one measurement came to. */
export interface Figure {
  readonly median: number
  readonly min: number
  readonly max: number
  readonly rounds: number
}

export function figure(values: readonly number[]): Figure {
  return { median: percentile(values, 50), min: Math.min(...values), max: Math.max(...values), rounds: values.length }
}

/** The ratios of two measurements, round by round: what changed on the machine between rounds changes both. */
export function ratio(values: readonly number[], references: readonly number[]): Figure {
  return figure(values.slice(0, references.length).map((value, round) => value / (references[round] ?? NaN)))
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** The nearest rank, and the mean of the two in the middle for the median of an even count. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (index: number): number => sorted[Math.min(Math.max(index, 0), sorted.length - 1)] ?? NaN
  if (percent === 50 && sorted.length % 2 === 0) return (at(sorted.length / 2 - 1) + at(sorted.length / 2)) / 2
  return at(Math.ceil((percent / 100) * sorted.length) - 1)
}
