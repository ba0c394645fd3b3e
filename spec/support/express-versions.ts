import express from 'express'

/** The two majors of Express that the package supports, for `describe.each`. */
export const EXPRESS_VERSIONS: readonly (readonly [name: string, factory: typeof express])[] = [
  ['Express 4', require('express4') as typeof express],
  ['Express 5', express],
]
