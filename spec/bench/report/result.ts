import type { Figure } from '../support/statistics.ts'

/** A table of a scenario, in cells of text. */
export interface Table {
  readonly caption: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** What the package is to achieve, and what was measured. */
export interface Target {
  readonly text: string
  /** `undefined` where it could not be measured. */
  readonly measured: Figure | undefined
  readonly limit: number
  /** Whether the limit is the most or the least. */
  readonly bound: 'most' | 'least'
  readonly unit: string
}

/** A point of the chart: what a server costs at so many events per turn. */
export interface ChartPoint {
  readonly server: string
  readonly group: string
  readonly value: Figure
}

export interface ScenarioResult {
  readonly title: string
  /** How it was measured, in whole sentences. */
  readonly method: readonly string[]
  readonly tables: readonly Table[]
  readonly targets: readonly Target[]
  readonly chart?: readonly ChartPoint[]
}

export function isMet({ measured, limit, bound }: Target): boolean {
  if (measured === undefined) return false
  return bound === 'most' ? measured.median <= limit : measured.median >= limit
}

/** Three digits that count, as `2.31`, `0.0451` or `12,345`. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString('en')
  return value === 0 ? '0' : Number(value.toPrecision(3)).toString()
}

/** A figure as `2.31 (2.25–2.40)`. */
export function shown(value: Figure | undefined, unit = ''): string {
  if (value === undefined) return '–'
  const spread = value.rounds > 1 ? ` (${digits(value.min)}–${digits(value.max)})` : ''
  return `${digits(value.median)}${unit}${spread}`
}
