import type { Figure } from '../support/statistics.ts'

/** A table of a scenario. Its cells are text. */
export interface Table {
  readonly caption: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** A target of the package, with the measured value. */
export interface Target {
  readonly text: string
  /** `undefined` if the value could not be measured. */
  readonly measured: Figure | undefined
  readonly limit: number
  /** Kind of the limit: a maximum or a minimum. */
  readonly bound: 'most' | 'least'
  readonly unit: string
}

/** A point of the chart: the cost of a server at a number of events per turn. */
export interface ChartPoint {
  readonly server: string
  readonly group: string
  readonly value: Figure
}

export interface ScenarioResult {
  readonly title: string
  /** Description of the measurement, in complete sentences. */
  readonly method: readonly string[]
  readonly tables: readonly Table[]
  readonly targets: readonly Target[]
  readonly chart?: readonly ChartPoint[]
}

export function isMet({ measured, limit, bound }: Target): boolean {
  if (measured === undefined) return false
  return bound === 'most' ? measured.median <= limit : measured.median >= limit
}

/** Formats a number with three significant digits, or as an integer: `2.31`, `0.0451` or `12,345`. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString('en')
  return value === 0 ? '0' : Number(value.toPrecision(3)).toString()
}

/** Formats a figure as `2.31 (2.25–2.40)`. */
export function shown(value: Figure | undefined, unit = ''): string {
  if (value === undefined) return '–'
  const spread = value.rounds > 1 ? ` (${digits(value.min)}–${digits(value.max)})` : ''
  return `${digits(value.median)}${unit}${spread}`
}
