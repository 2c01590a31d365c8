# Reference values for predict's smoothing members, from R's stats and forecast
# packages. Writes predict/testdata/members.json:
#   Rscript tests/reference/members.R > predict/testdata/members.json
suppressMessages(library(forecast))
num <- function(v) paste0("[", paste(sprintf("%.15g", v), collapse = ","), "]")
set.seed(5)
walk <- round(20 + cumsum(rnorm(150, 0, 0.4)), 4)
tame <- round(20 + 3 * sin(seq_len(240) / 9) + runif(240, -0.4, 0.4), 4) # no error so large that holt bounds it
daily <- round(30 + rep(10 * sin(2 * pi * (1:24) / 24) + 4 * cos(4 * pi * (1:24) / 24), 14) + rnorm(336, 0, 0.5), 4)
weights <- function(keep, n) keep^((n - 1):0)
h <- 12

# Simple exponential smoothing that starts from the mean of the first 1/alpha.
ses <- sapply(c(0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9), function(alpha) {
  n0 <- floor(1 / alpha + 1e-9)
  level <- HoltWinters(walk[n0:150], alpha = alpha, beta = FALSE, gamma = FALSE, l.start = mean(walk[1:n0]))$coefficients[[1]]
  f <- forecast(ets(walk, "ANN", alpha = alpha), h = h, level = 68.26894921370859)
  growth <- as.numeric(f$upper - f$mean); growth <- growth / growth[1]
  sprintf('{"alpha":%.15g,"level":%.15g,"growth":%s}', alpha, level, num(growth))
})
# Damped trend; R's beta is alpha times ours.
cells <- list(c(0.3, 0.15, 0.9), c(0.6, 0.05, 0.95), c(0.9, 0.4, 0.85), c(0.3, 0.4, 0.8))
holt <- sapply(cells, function(k) {
  f <- forecast(ets(tame, "AAN", damped = TRUE, alpha = k[1], beta = k[1] * k[2], phi = k[3]), h = h, level = 68.26894921370859)
  growth <- as.numeric(f$upper - f$mean); growth <- growth / growth[1]
  sprintf('{"alpha":%.15g,"beta":%.15g,"phi":%.15g,"mean":%s,"growth":%s}', k[1], k[2], k[3], num(as.numeric(f$mean)), num(growth))
})
slope <- sapply(c(1, 0.995, 0.9), function(keep) {
  b <- coef(lm(walk ~ seq_along(walk), weights = weights(keep, 150)))[[2]]
  sprintf('{"keep":%.15g,"slope":%.15g}', keep, b)
})
t <- thetaf(walk, h = h)
stl <- as.numeric(stlf(ts(daily, frequency = 24), h = 24, method = "ets", s.window = "periodic")$mean)
cat('{"walk":', num(walk), ',\n"tame":', num(tame), ',\n"daily":', num(daily), ',\n"ses":[', paste(ses, collapse = ",\n"),
  '],\n"holt":[', paste(holt, collapse = ",\n"), '],\n"slope":[', paste(slope, collapse = ","),
  '],\n"theta":{"alpha":', sprintf("%.15g", t$model$alpha), ',"drift":', sprintf("%.15g", t$model$drift), ',"mean":', num(as.numeric(t$mean)),
  '},\n"stl_ets":', num(stl), '}\n', sep = "")
