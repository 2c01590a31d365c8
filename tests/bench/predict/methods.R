# The methods of R's forecast package by the rolling-origin protocol: fitted
# once on the training part, states updated at every origin.
#   Rscript methods.R SERIES OUT TRAIN STEP ORIGINS SEASON PART PARTS
# SERIES: one series a line, values separated by commas. OUT: a folder; for
# every method a file METHOD.PART of 4-byte floats: per series and origin
# 12 steps x 5 levels (0.5, 0.75, 0.9, 0.95, 0.99), and METHOD.PART.s: CPU seconds of
# the fit, one line a series. A method that fails on a series gives the naive
# forecast there and is counted in failed.PART.
suppressMessages(library(forecast))
a <- commandArgs(TRUE)
train <- as.integer(a[3]); every <- as.integer(a[4]); n <- as.integer(a[5]); season <- as.integer(a[6])
part <- as.integer(a[7]); parts <- as.integer(a[8])
lines <- readLines(a[1]); lines <- lines[seq_along(lines) %% parts == part]
H <- 12; LV <- c(50, 80, 90, 98)
gauss <- c(0, qnorm(c(0.75, 0.9, 0.95, 0.99)))
block <- function(f) rbind(as.numeric(f$mean), t(matrix(as.numeric(f$upper), nrow = H)))
normal <- function(mean, sd) rbind(mean, outer(gauss[-1], sd) + rep(mean, each = 4))
fc <- function(m) block(forecast(m, h = H, level = LV))

fourier_arima <- function(x) {
  y <- ts(x, frequency = season)
  fit <- auto.arima(y, xreg = fourier(y, K = 4), seasonal = FALSE)
  function(x) { z <- ts(x, frequency = season)
    block(forecast(Arima(z, model = fit, xreg = fourier(z, K = 4)), xreg = fourier(z, K = 4, h = H), level = LV)) }
}
smoothing <- function(model, damped = NULL) function(x) {
  fit <- ets(x, model = model, damped = damped); function(x) fc(ets(x, model = fit, use.initial.values = TRUE)) }
arima_of <- function(fitter) function(x) { fit <- fitter(x); function(x) fc(Arima(x, model = fit)) }
methods <- list(
  naive = function(x) function(x) block(naive(x, h = H, level = LV)),
  ses = smoothing("ANN"),
  holt_damped = smoothing("AAN", TRUE),
  ets = smoothing("ZZN"),
  theta = function(x) function(x) block(thetaf(x, h = H, level = LV)),
  arima111 = arima_of(function(x) Arima(x, order = c(1, 1, 1), method = "CSS-ML")),
  auto_arima = arima_of(function(x) auto.arima(x, seasonal = FALSE)),
  ar = function(x) { fit <- ar(x, order.max = if (season > 0) 36 else 16)
    function(x) { p <- predict(fit, newdata = x, n.ahead = H); normal(as.numeric(p$pred), as.numeric(p$se)) } })
if (season > 0) methods <- c(methods, list(
  snaive = function(x) function(x) block(snaive(ts(x, frequency = season), h = H, level = LV)),
  stl_ets = function(x) { fit <- stlm(ts(x, frequency = season), s.window = "periodic", method = "ets")
    function(x) block(forecast(stlm(ts(x, frequency = season), s.window = "periodic", model = fit), h = H, level = LV)) },
  fourier_arima = fourier_arima))

failed <- file(file.path(a[2], paste0("failed.", part)), "w")
for (name in names(methods)) {
  out <- file(file.path(a[2], paste0(name, ".", part)), "wb")
  secs <- file(file.path(a[2], paste0(name, ".", part, ".s")), "w")
  for (line in lines) {
    x <- as.numeric(strsplit(line, ",")[[1]])
    t0 <- sum(proc.time()[1:2])
    at <- tryCatch(methods[[name]](x[1:train]), error = function(e) { writeLines(paste(name, conditionMessage(e)), failed); NULL })
    writeLines(format(sum(proc.time()[1:2]) - t0), secs)
    for (i in seq_len(n)) {
      now <- train + (i - 1) * every
      q <- if (is.null(at)) NULL else tryCatch(at(x[1:now]), error = function(e) { writeLines(paste(name, conditionMessage(e)), failed); NULL })
      if (is.null(q) || any(!is.finite(q))) q <- methods$naive(NULL)(x[1:now])
      writeBin(as.numeric(q), out, size = 4)
    }
  }
  close(out); close(secs)
}
close(failed)
